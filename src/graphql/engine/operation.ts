/** What an operation is, worked out once a document. */
import { type DocumentNode, type GraphQLError, Kind, type OperationDefinitionNode, visit } from 'graphql';
import { costOf } from './document-size.ts';

/** A document that is ready to run, with the one operation that was asked for. */
export interface PreparedOperation {
  readonly document: DocumentNode;
  readonly operation: OperationDefinitionNode;
  readonly operationName: string | undefined;
  /** Names document and operation in group keys. */
  readonly id: number;
  /** Selects something that is the viewer's own, so that no two viewers can share bytes. */
  readonly dependsOnViewer: boolean;
  /** The variables that the selection below the root field depends on: two subscribers may differ in all others. */
  readonly innerVariables: readonly string[];
  /** What it costs its address. */
  readonly cost: number;
  /** May be held back until there is something newer. */
  readonly canWait: boolean;
}

export function isRefusal(prepared: PreparedOperation | readonly GraphQLError[]): prepared is readonly GraphQLError[] {
  return Array.isArray(prepared);
}

export type Variables = Readonly<Record<string, unknown>> | null | undefined;

/** Fields whose value depends on who asks. */
const PERSONAL = new Set(['viewerBallot', 'viewer', 'audit', 'anomalies']);

/** What is known of an operation before it is run, whatever its variables. */
export function analyse(
  document: DocumentNode,
  operation: OperationDefinitionNode,
  operationName: string | undefined,
  id: number,
): PreparedOperation {
  let personal = false;
  let waits = false;
  const inner = new Set<string>();
  const outer = new Set(
    operation.selectionSet.selections.flatMap((node) => (node.kind === Kind.FIELD ? (node.arguments ?? []) : [])),
  );
  visit(document, {
    Field(node) {
      if (PERSONAL.has(node.name.value)) personal = true;
    },
    // What the root field takes decides what is watched, not how it is written.
    Argument(node) {
      if (node.name.value === 'waitMs') waits = true;
      return outer.has(node) ? false : undefined;
    },
    VariableDefinition: () => false,
    Variable(node) {
      inner.add(node.name.value);
    },
  });
  const cost = costOf(document, operation);
  return {
    document,
    operation,
    operationName,
    id,
    dependsOnViewer: personal,
    innerVariables: [...inner],
    cost,
    canWait: waits,
  };
}
