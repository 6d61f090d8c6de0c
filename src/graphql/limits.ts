/** How large a document may be: checked before it is validated, since validating a bomb is what a bomb is for. */
import { type DocumentNode, type FragmentDefinitionNode, GraphQLError, Kind, type SelectionSetNode } from 'graphql';
import { LIMITS } from '../access/limits.ts';

interface Size {
  readonly depth: number;
  readonly fields: number;
}

/** Errors that name the limit; none for a document of ordinary size. Linear in the document, whatever its fragments. */
export function checkSize(document: DocumentNode): GraphQLError[] {
  const fragments = new Map<string, FragmentDefinitionNode>();
  for (const node of document.definitions)
    if (node.kind === Kind.FRAGMENT_DEFINITION) fragments.set(node.name.value, node);
  const known = new Map<string, Size>();

  const sizeOfFragment = (name: string): Size => {
    const size = known.get(name);
    if (size !== undefined) return size;
    // A circle is reported by validation; here it only must not be followed.
    known.set(name, { depth: 0, fields: 0 });
    const fragment = fragments.get(name);
    const measured = fragment === undefined ? { depth: 0, fields: 0 } : sizeOf(fragment.selectionSet);
    known.set(name, measured);
    return measured;
  };

  const sizeOf = (set: SelectionSetNode): Size => {
    let depth = 0;
    let fields = 0;
    for (const node of set.selections) {
      let size: Size;
      if (node.kind === Kind.FRAGMENT_SPREAD) size = sizeOfFragment(node.name.value);
      else if (node.kind === Kind.INLINE_FRAGMENT) size = sizeOf(node.selectionSet);
      // Introspection is deep by nature and bounded by a rule of its own.
      else if (node.name.value.startsWith('__')) size = { depth: 0, fields: 1 };
      else {
        const inner = node.selectionSet === undefined ? { depth: 0, fields: 0 } : sizeOf(node.selectionSet);
        size = { depth: inner.depth + 1, fields: inner.fields + 1 };
      }
      depth = Math.max(depth, size.depth);
      fields = Math.min(fields + size.fields, Number.MAX_SAFE_INTEGER);
    }
    return { depth, fields };
  };

  const errors: GraphQLError[] = [];
  for (const node of document.definitions) {
    if (node.kind !== Kind.OPERATION_DEFINITION) continue;
    const { depth, fields } = sizeOf(node.selectionSet);
    if (depth > LIMITS.documentDepth) {
      errors.push(refused(`The operation is ${depth} levels deep, at most ${LIMITS.documentDepth} are allowed.`));
    }
    if (fields > LIMITS.documentFields) {
      errors.push(refused(`The operation selects ${fields} fields, at most ${LIMITS.documentFields} are allowed.`));
    }
    const { length } = node.selectionSet.selections;
    if (node.operation === 'mutation' && length > LIMITS.mutationFields) {
      errors.push(refused(`The operation has ${length} mutations, at most ${LIMITS.mutationFields} are allowed.`));
    }
  }
  return errors;
}

/**
 * The root field of a subscription may not be left out or put in by a directive, as the specification has it: a subscription to
 * nothing is none, and graphql's own rule for the root throws at a condition that is a variable.
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
