/** Analyses an operation once per document, for the engine and the transports. */
import { type DocumentNode, type GraphQLError, Kind, type OperationDefinitionNode, visit } from 'graphql';
import { costOf } from './document-size.ts';

/** A valid document with the operation that the client chose. */
export interface PreparedOperation {
  readonly document: DocumentNode;
  readonly operation: OperationDefinitionNode;
  readonly operationName: string | undefined;
  /** Identifies document and operation in group keys. */
  readonly id: number;
  /** The result depends on the viewer, so two viewers cannot share bytes. */
  readonly dependsOnViewer: boolean;
  /**
   * The variables that the selection below the root field uses. Others do not matter to a
   * group.
   */
  readonly innerVariables: readonly string[];
  /** The points that it costs its address. */
  readonly cost: number;
  /** The operation may wait for newer results. */
  readonly canWait: boolean;
}

export function isRefusal(prepared: PreparedOperation | readonly GraphQLError[]): prepared is readonly GraphQLError[] {
  return Array.isArray(prepared);
}

export type Variables = Readonly<Record<string, unknown>> | null | undefined;

/** Fields whose value depends on the viewer. */
const PERSONAL = new Set(['viewerBallot', 'viewer', 'audit', 'anomalies']);

/** Analyses an operation without its variables. */
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
    // The arguments of the root field choose what is watched; they do not change the
    // encoding.
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
