/**
 * Limits the size of a document. The check runs before validation, because the validation
 * of a huge document is slow.
 */
import {
  type DocumentNode,
  type FieldNode,
  type FragmentDefinitionNode,
  GraphQLError,
  Kind,
  type OperationDefinitionNode,
  type SelectionSetNode,
} from 'graphql';
import { LIMITS } from '../../limits/limits.ts';

interface Size {
  readonly depth: number;
  readonly fields: number;
  /** Fields on the top level. */
  readonly width: number;
}

const NOTHING: Size = { depth: 0, fields: 0, width: 0 };

/** Measures selections with their fragments expanded, in time linear in the document. */
function makeRuler(document: DocumentNode): (set: SelectionSetNode) => Size {
  const fragments = new Map<string, FragmentDefinitionNode>();
  for (const node of document.definitions)
    if (node.kind === Kind.FRAGMENT_DEFINITION) fragments.set(node.name.value, node);
  const known = new Map<string, Size>();

  const sizeOfFragment = (name: string): Size => {
    const size = known.get(name);
    if (size !== undefined) return size;
    // Validation reports a cycle of fragments. Do not follow it here.
    known.set(name, NOTHING);
    const fragment = fragments.get(name);
    const measured = fragment === undefined ? NOTHING : sizeOf(fragment.selectionSet);
    known.set(name, measured);
    return measured;
  };

  const sizeOfField = (node: FieldNode): Size => {
    const name = node.name.value;
    // A validation rule limits the depth of introspection. Each repetition costs
    // milliseconds.
    if (name === '__schema' || name === '__type') return { depth: 0, fields: LIMITS.introspectionFields, width: 1 };
    if (name.startsWith('__')) return { depth: 0, fields: 1, width: 1 };
    const inner = node.selectionSet === undefined ? NOTHING : sizeOf(node.selectionSet);
    return { depth: inner.depth + 1, fields: inner.fields + 1, width: 1 };
  };

  const sizeOf = (set: SelectionSetNode): Size => {
    let depth = 0;
    let fields = 0;
    let width = 0;
    for (const node of set.selections) {
      let size: Size;
      if (node.kind === Kind.FRAGMENT_SPREAD) size = sizeOfFragment(node.name.value);
      else if (node.kind === Kind.INLINE_FRAGMENT) size = sizeOf(node.selectionSet);
      else size = sizeOfField(node);
      depth = Math.max(depth, size.depth);
      fields = Math.min(fields + size.fields, Number.MAX_SAFE_INTEGER);
      width = Math.min(width + size.width, Number.MAX_SAFE_INTEGER);
    }
    return { depth, fields, width };
  };
  return sizeOf;
}

const costs = new WeakMap<OperationDefinitionNode, number>();

/** The points that an operation costs its address: the number of its fields. */
export function costOf(document: DocumentNode, operation: OperationDefinitionNode): number {
  let cost = costs.get(operation);
  if (cost === undefined) {
    cost = Math.max(1, makeRuler(document)(operation.selectionSet).fields);
    costs.set(operation, cost);
  }
  return cost;
}

/**
 * Returns errors that name the limit; an empty list if the document is within all limits.
 */
export function checkSize(document: DocumentNode): GraphQLError[] {
  const sizeOf = makeRuler(document);
  const errors: GraphQLError[] = [];
  for (const node of document.definitions) {
    if (node.kind !== Kind.OPERATION_DEFINITION) continue;
    const { depth, fields, width } = sizeOf(node.selectionSet);
    if (depth > LIMITS.documentDepth) {
      errors.push(refused(`The operation is ${depth} levels deep, at most ${LIMITS.documentDepth} are allowed.`));
    }
    if (fields > LIMITS.documentFields) {
      errors.push(refused(`The operation selects ${fields} fields, at most ${LIMITS.documentFields} are allowed.`));
    }
    if (node.operation === 'mutation' && width > LIMITS.mutationFields) {
      errors.push(refused(`The operation has ${width} mutations, at most ${LIMITS.mutationFields} are allowed.`));
    }
  }
  return errors;
}

/**
 * Forbids @skip and @include on the root field of a subscription, as the specification
 * does. The rule of graphql-js throws if the condition is a variable.
 */
export function checkRoots(document: DocumentNode): GraphQLError[] {
  const fragments = new Map<string, FragmentDefinitionNode>();
  for (const node of document.definitions)
    if (node.kind === Kind.FRAGMENT_DEFINITION) fragments.set(node.name.value, node);
  const seen = new Set<string>();

  const conditionIn = (set: SelectionSetNode): boolean =>
    set.selections.some((node) => {
      if (node.directives?.some(({ name }) => name.value === 'skip' || name.value === 'include')) return true;
      if (node.kind === Kind.FIELD) return false;
      if (node.kind === Kind.INLINE_FRAGMENT) return conditionIn(node.selectionSet);
      const fragment = seen.has(node.name.value) ? undefined : fragments.get(node.name.value);
      seen.add(node.name.value);
      return fragment !== undefined && conditionIn(fragment.selectionSet);
    });

  return document.definitions.flatMap((node) => {
    if (node.kind !== Kind.OPERATION_DEFINITION || node.operation !== 'subscription') return [];
    seen.clear();
    if (!conditionIn(node.selectionSet)) return [];
    return [new GraphQLError('The root field of a subscription takes no @skip and no @include.', { nodes: [node] })];
  });
}

function refused(message: string): GraphQLError {
  return new GraphQLError(message, { extensions: { code: 'OPERATION_TOO_LARGE' } });
}
