/**
 * Operations out of a schema: random selections with aliases, fragments, unions and directives, and random arguments, as
 * literals and as variables. Most are in order, so that they get far; each has a mood that says how many of its values are not.
 */
import {
  type GraphQLArgument,
  type GraphQLField,
  type GraphQLInputType,
  type GraphQLNamedType,
  type GraphQLSchema,
  getNamedType,
  isCompositeType,
  isEnumType,
  isInputObjectType,
  isInterfaceType,
  isListType,
  isNonNullType,
  isObjectType,
  isRequiredArgument,
  isRequiredInputField,
  isUnionType,
} from 'graphql';
import { NASTY_DATES, NASTY_NUMBERS, NASTY_TEXTS } from './nasty.ts';

export interface KnownPoll {
  readonly id: string;
  readonly joinCode: string;
  readonly organizerKey: string;
  readonly choiceIds: readonly string[];
  readonly kind: string;
  readonly codes: readonly string[];
}

/** The ids and tokens that the operations use. */
export interface World {
  readonly polls: KnownPoll[];
  readonly voterTokens: readonly string[];
  readonly cursors: readonly string[];
}

export interface Operation {
  readonly type: 'query' | 'mutation' | 'subscription';
  readonly query: string;
  readonly variables: Readonly<Record<string, unknown>>;
  /** The poll that the operation names, if that poll exists. */
  readonly poll: KnownPoll;
  readonly mood: Mood;
}

type Mood = 'good' | 'odd' | 'wild';

/** How many values of a hundred are invalid. */
const BAD: Record<Mood, number> = { good: 0, odd: 8, wild: 40 };
/** Mutations that delete or close a poll: mostly invalid, or no poll would be left. */
const ENDING = new Set(['deletePoll', 'closePoll', 'resetPoll']);

/** An enum value. As a literal it is written without quotes. */
class EnumValue {
  readonly name: string;
  constructor(name: string) {
    this.name = name;
  }
  toJSON(): string {
    return this.name;
  }
}

export function operationFrom(schema: GraphQLSchema, random: (below: number) => number, world: World): Operation {
  const pick = <T>(list: readonly T[]): T => {
    const one = list[random(list.length)];
    if (one === undefined) throw new Error('Nothing to pick from.');
    return one;
  };
  const chance = (percent: number): boolean => random(100) < percent;

  const mood = pick<Mood>(['good', 'good', 'good', 'odd', 'odd', 'wild']);
  const bad = (): boolean => chance(BAD[mood]);
  const poll = pick(world.polls);
  const type = pick<Operation['type']>(['query', 'query', 'query', 'mutation', 'mutation', 'mutation', 'subscription']);
  const definitions: string[] = [];
  const variables: Record<string, unknown> = {};
  const fragments: string[] = [];
  const deepest = chance(4) ? 14 : 2 + random(5);
  let names = 0;
  /** Fields with a set or arguments: twice under one name they would have to be the same. */
  const used = new Set<string>();
  let room = chance(2) ? 400 : 40;

  const root = {
    query: schema.getQueryType(),
    mutation: schema.getMutationType(),
    subscription: schema.getSubscriptionType(),
  }[type];
  if (root == null) throw new Error(`The schema has no ${type}.`);
  const fields = Object.values(root.getFields());
  const count = type === 'query' ? 1 + random(3) : chance(95) ? 1 : 2;
  const body = Array.from({ length: count }, () => selectField(root, pick(fields), 0)).join(' ');
  const name = chance(20) ? pick(['Poll', 'constructor', '__proto__', 'toString', 'q']) : '';
  const declared = definitions.length === 0 ? '' : `(${definitions.join(', ')})`;
  let query = `${type} ${name}${declared} { ${body} } ${fragments.join(' ')}`;
  if (mood === 'wild' && chance(10)) query = mangled(query);
  if (mood === 'wild' && chance(20)) variables[pick(NASTY_TEXTS)] = pick(NASTY_TEXTS);
  return { type, query, variables, poll, mood };

  function mangled(text: string): string {
    const at = random(text.length + 1);
    return text.slice(0, at) + pick(NASTY_TEXTS) + text.slice(at + random(4));
  }

  function selectField(parent: GraphQLNamedType, field: GraphQLField<unknown, unknown>, depth: number): string {
    room--;
    const given = field.args.filter((arg) =>
      isRequiredArgument(arg) ? !bad() : chance(wanted(field.name, arg) ? 90 : 45),
    );
    const onlyOne =
      parent.name === 'Query' && field.name === 'poll' && !bad()
        ? [pick(given.length > 0 ? given : field.args)]
        : given;
    const args = onlyOne.map((arg) => `${arg.name}: ${written(arg.type, arg.name, field.name)}`);
    if (bad() && chance(20)) args.push(`${pick(['nope', '__proto__', 'constructor'])}: 1`);
    const inner = getNamedType(field.type);
    const single = used.has(field.name) || (used.size > 0 && field.args.length > 0);
    const whole = isCompositeType(inner) || field.args.length > 0;
    if (whole) used.add(field.name);
    const alias =
      (single && whole && !(mood === 'wild')) || chance(15)
        ? `a${++names}: `
        : bad() && chance(20)
          ? '__proto__: '
          : '';
    const set = isCompositeType(inner) ? ` { ${select(inner, depth + 1)} }` : '';
    return `${alias}${field.name}${args.length === 0 ? '' : `(${args.join(', ')})`}${directive()}${set}`;
  }

  function wanted(field: string, { name: arg }: GraphQLArgument): boolean {
    return field === 'pollResults' && arg === 'afterVersion';
  }

  function directive(): string {
    if (!chance(6)) return '';
    const condition = chance(50) ? `${chance(70)}` : written({ kind: 'condition' }, 'if', '');
    return bad() ? ' @nope(if: 1)' : ` @${pick(['include', 'skip'])}(if: ${condition})`;
  }

  function select(of: GraphQLNamedType, depth: number): string {
    const parts: string[] = ['__typename'];
    if (isUnionType(of)) {
      for (const member of of.getTypes())
        if (member.name.endsWith('Success') || chance(25)) parts.push(spread(member, depth));
      if (chance(70)) parts.push('... on Error { message }');
    } else if (isObjectType(of) || isInterfaceType(of)) {
      const all = Object.values(of.getFields());
      for (let left = 1 + random(5); left > 0; left--) {
        const field = pick(all);
        const isLeaf = !isCompositeType(getNamedType(field.type));
        if (isLeaf || (depth < deepest && room > 0)) parts.push(selectField(of, field, depth));
      }
      if (chance(5) && room > 0) parts.push(spread(of, depth));
    }
    if (bad() && chance(20))
      parts.push(pick(['nope', '...nope', '__schema { types { name } }', '... on Poll { id }', '']));
    return parts.join(' ');
  }

  function spread(of: GraphQLNamedType, depth: number): string {
    if (chance(70)) return `... on ${of.name}${directive()} { ${select(of, depth)} }`;
    const fragment = `F${++names}`;
    const set = select(of, depth);
    // Some fragments spread themselves.
    fragments.push(`fragment ${fragment} on ${of.name} { ${set} ${bad() && chance(20) ? `...${fragment}` : ''} }`);
    return `...${fragment}${directive()}`;
  }

  /** A value, as a literal or as a variable with its declaration. */
  function written(of: GraphQLInputType | { readonly kind: 'condition' }, arg: string, field: string): string {
    const given = 'kind' in of ? chance(70) : value(of, arg, field);
    if (chance(45)) return literal(given);
    const variable = bad() && chance(10) ? '__proto__' : `v${++names}`;
    const declared = 'kind' in of ? 'Boolean!' : bad() && chance(10) ? 'String' : String(of);
    definitions.push(`$${variable}: ${declared}`);
    if (given !== undefined && !(bad() && chance(20))) {
      Object.defineProperty(variables, variable, {
        value: given,
        enumerable: true,
        configurable: true,
        writable: true,
      });
    }
    return `$${variable}`;
  }

  function value(of: GraphQLInputType, at: string, field: string, nullable = true): unknown {
    if (isNonNullType(of)) return bad() && chance(30) ? null : value(of.ofType, at, field, false);
    if (bad()) return anything(at, 0);
    if (nullable && chance(3)) return null;
    if (isListType(of)) return list(of.ofType, at, field);
    if (isEnumType(of)) return new EnumValue(pick(of.getValues()).name);
    if (isInputObjectType(of)) {
      const object: Record<string, unknown> = {};
      for (const one of Object.values(of.getFields())) {
        const needed = isRequiredInputField(one) || (of.name === 'CastVoteInput' && one.name === 'choiceIds');
        if (needed ? !bad() : chance(30)) object[one.name] = value(one.type, one.name, field);
      }
      if (of.name === 'CreatePollInput' && object.kind !== undefined && chance(60)) object.choices = ['A', 'B', '👍'];
      if (mood === 'wild' && chance(10)) {
        Object.defineProperty(object, '__proto__', { value: { polluted: true }, enumerable: true, configurable: true });
      }
      return object;
    }
    return scalar(of.name, at, field);
  }

  function list(of: GraphQLInputType, at: string, field: string): unknown {
    if (at === 'choiceIds') {
      const ids = poll.choiceIds.filter(() => chance(40));
      return ids.length === 0 || poll.kind === 'SINGLE' ? poll.choiceIds.slice(0, 1) : ids;
    }
    const long = mood === 'wild' && chance(3) ? 1_001 : random(4);
    return Array.from({ length: long }, () => value(of, at, field));
  }

  function scalar(name: string, at: string, field: string): unknown {
    switch (name) {
      case 'ID':
        return ENDING.has(field) && chance(60)
          ? pick(NASTY_TEXTS)
          : at === 'choiceIds'
            ? pick(poll.choiceIds)
            : poll.id;
      case 'Int':
        if (at === 'first') return 1 + random(100);
        return at === 'rating' || at.endsWith('Choices') ? random(6) : random(30);
      case 'Boolean':
        return chance(50);
      case 'DateTime':
        return new Date(Date.now() + (random(2_000) - 1_000) * 3_600_000).toISOString();
      default:
        if (at === 'joinCode') return poll.joinCode;
        if (at === 'voterToken') return pick(world.voterTokens);
        if (at === 'code' || at === 'voterId') return poll.codes.length > 0 ? pick(poll.codes) : `voter ${random(50)}`;
        if (at === 'after') return pick(world.cursors);
        if (at === 'linkPrefix') return 'https://polls.example/?c=';
        return chance(60) ? `Text ${random(1_000)}` : pick(NASTY_TEXTS);
    }
  }

  /** A value of any type, also a wrong one. */
  function anything(at: string, depth: number): unknown {
    switch (random(9)) {
      case 0:
        return null;
      case 1:
        return chance(50);
      case 2:
        return pick(NASTY_DATES);
      case 3:
      case 4: {
        const number = pick(NASTY_NUMBERS);
        // A valid `waitMs` would wait for half a minute.
        return at === 'waitMs' && typeof number === 'number' && number > 30 ? number + 30_001 : number;
      }
      case 5:
        return depth > 3 ? [] : Array.from({ length: random(4) }, () => anything(at, depth + 1));
      case 6:
        return deep(chance(50) ? 20 : 200);
      case 7:
        return { [pick(NASTY_TEXTS)]: depth > 3 ? null : anything(at, depth + 1), id: poll.id };
      default:
        return pick(NASTY_TEXTS);
    }
  }

  function deep(levels: number): unknown {
    let inner: unknown = poll.id;
    for (let level = 0; level < levels; level++) inner = level % 7 === 6 ? { input: inner } : [inner];
    return inner;
  }
}

function literal(value: unknown): string {
  if (value instanceof EnumValue) return value.name;
  if (typeof value === 'string') return value.startsWith('raw:') ? value.slice(4) : JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(literal).join(', ')}]`;
  if (typeof value === 'object' && value !== null) {
    return `{ ${Object.entries(value)
      .map(([name, inner]) => `${/^\w+$/.test(name) ? name : 'odd'}: ${literal(inner)}`)
      .join(', ')} }`;
  }
  return String(value);
}
