import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  getNamedType,
  isEnumType,
  isInputObjectType,
  isInterfaceType,
  isIntrospectionType,
  isObjectType,
} from 'graphql';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { newSettings } from '../../../src/core/poll.ts';
import { printedSchema, schema } from '../../../src/graphql/schema/schema.ts';
import { ask, createPoll, manage, operate } from '../../support/api.ts';
import { ROOT, startServer, type TestServer } from '../../support/server.ts';

test('the schema that the code builds is schema.graphql, byte for byte (else: npm run schema)', () => {
  expect(printedSchema()).toBe(readFileSync(join(ROOT, 'schema.graphql'), 'utf8'));
});

test('every type, field, argument and enum value is described', () => {
  const bare: string[] = [];
  const builtIn = new Set(['ID', 'Int', 'Float', 'String', 'Boolean']);
  for (const type of Object.values(schema.getTypeMap())) {
    if (isIntrospectionType(type) || builtIn.has(type.name)) continue;
    if (!type.description) bare.push(type.name);
    if (isEnumType(type))
      for (const value of type.getValues()) if (!value.description) bare.push(`${type.name}.${value.name}`);
    if (isObjectType(type) || isInterfaceType(type) || isInputObjectType(type)) {
      for (const field of Object.values(type.getFields())) {
        if (!field.description) bare.push(`${type.name}.${field.name}`);
        if (!('args' in field)) continue;
        for (const arg of field.args) if (!arg.description) bare.push(`${type.name}.${field.name}(${arg.name})`);
      }
    }
  }
  expect(bare).toEqual([]);
});

test('every mutation answers a union of one success and errors that are all Errors', () => {
  for (const field of Object.values(schema.getMutationType()?.getFields() ?? {})) {
    const union = getNamedType(field.type);
    expect(union.name).toBe(`${field.name[0]?.toUpperCase()}${field.name.slice(1)}Result`);
    const members = 'getTypes' in union ? union.getTypes() : [];
    const [success, ...rest] = members.filter((member) => member.name.endsWith('Success'));
    expect(success?.name).toBe(union.name.replace('Result', 'Success'));
    expect(rest).toEqual([]);
    for (const member of members) {
      if (member !== success) expect(member.getInterfaces().map(({ name }) => name)).toEqual(['Error']);
    }
  }
});

describe('the life of a poll', () => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startServer();
  });
  afterAll(() => server[Symbol.asyncDispose]());

  test('voterIdentity: a server without accounts refuses ACCOUNT', async () => {
    const [name, input] = ['voterIdentity', { voterIdentity: 'ACCOUNT' }];
    const answer = await ask<{ __typename: string; message: string }>(
      server.graphql,
      'mutation ($input: CreatePollInput!) { createPoll(input: $input) { __typename ... on Error { message } } }',
      { input: { question: 'q', choices: ['a', 'b'], ...input } },
    );
    expect(answer).toMatchObject({ __typename: 'InvalidInputError', message: expect.stringContaining(name) });
  });

  test('draft, change, open, close; no way back', async () => {
    const poll = await createPoll(server.graphql, { status: 'DRAFT', choices: ['a', 'b'] });
    const changed = await ask<{ poll: { choices: { id: string; label: string }[] } }>(
      server.graphql,
      `mutation ($input: UpdatePollInput!) { updatePoll(input: $input) { ... on UpdatePollSuccess { poll { choices { id label } } } } }`,
      { input: { pollId: poll.id, choices: ['b', 'c'] } },
      poll.manage,
    );
    expect(changed.poll.choices).toEqual([
      { id: `${poll.id}.2`, label: 'b' },
      { id: `${poll.id}.3`, label: 'c' },
    ]);
    expect(await manage(server.graphql, 'closePoll', poll)).toMatchObject({ __typename: 'PollNotOpenError' });
    expect(await manage(server.graphql, 'openPoll', poll)).toMatchObject({ __typename: 'OpenPollSuccess' });
    expect(await manage(server.graphql, 'openPoll', poll)).toMatchObject({ __typename: 'OpenPollSuccess' });
    expect(await manage(server.graphql, 'closePoll', poll)).toMatchObject({ __typename: 'ClosePollSuccess' });
    expect(await manage(server.graphql, 'openPoll', poll)).toMatchObject({ __typename: 'PollNotOpenError' });
    expect(await manage(server.graphql, 'resetPoll', poll)).toMatchObject({ __typename: 'PollNotOpenError' });
    expect(await manage(server.graphql, 'deletePoll', poll)).toMatchObject({ __typename: 'DeletePollSuccess' });
    expect(await manage(server.graphql, 'deletePoll', poll)).toMatchObject({ __typename: 'NotFoundError' });
    expect(await ask(server.graphql, 'query ($id: ID!) { poll(id: $id) { id } }', { id: poll.id })).toBeNull();
  });

  test('revealing results raises the version, in any status; what changes nothing changes nothing', async () => {
    const poll = await createPoll(server.graphql);
    const { store } = server.app;
    // Until other visibilities are accepted, such a poll comes from the store.
    const hide = () =>
      store.changePoll(poll.id, 0, (found) => ({
        settings: newSettings({
          question: 'q',
          choices: found.choices.map(({ label }) => label),
          resultsVisibility: 'ORGANIZERS',
        }),
        raiseVersion: true,
      }));
    const reveal = () =>
      ask<{ __typename: string; poll: { results: { version: number } } }>(
        server.graphql,
        `mutation ($input: UpdatePollInput!) { updatePoll(input: $input) { __typename
          ... on UpdatePollSuccess { poll { results { version } } } } }`,
        { input: { pollId: poll.id, resultsVisibility: 'ALWAYS' } },
        poll.manage,
      );
    for (const status of ['OPEN', 'CLOSED']) {
      const hidden = await hide();
      const revealed = await reveal();
      expect(revealed.poll.results.version).toBe((hidden?.version ?? 0) + 1);
      const again = await reveal();
      expect(again).toEqual(revealed);
      expect(await store.loadPoll(poll.id)).toMatchObject({
        version: revealed.poll.results.version,
        poll: { status, resultsVisibility: 'ALWAYS', revision: (hidden?.poll.revision ?? 0) + 1 },
      });
      await manage(server.graphql, 'closePoll', poll);
    }
  });

  test("managing takes the poll's own organizer key", async () => {
    const poll = await createPoll(server.graphql);
    const other = await createPoll(server.graphql);
    for (const headers of [{}, other.manage, { authorization: 'Bearer nonsense' }, { authorization: 'Basic x' }]) {
      for (const name of ['openPoll', 'closePoll', 'resetPoll', 'deletePoll']) {
        const answer = await manage(server.graphql, name, { ...poll, manage: headers as typeof poll.manage });
        expect(answer.__typename).toBe('NotAllowedError');
      }
    }
  });

  test('a poll is found by its join code in any case, and a page of polls goes on where it ended', async () => {
    const poll = await createPoll(server.graphql);
    const { joinCode } = await ask<{ joinCode: string }>(
      server.graphql,
      'query ($id: ID!) { poll(id: $id) { joinCode } }',
      { id: poll.id },
    );
    expect(joinCode).toMatch(/^[BCDFGHJKMNPQRTVWXY346789]{6}$/);
    const found = await ask<{ id: string }>(server.graphql, 'query ($code: String!) { poll(joinCode: $code) { id } }', {
      code: joinCode.toLowerCase(),
    });
    expect(found.id).toBe(poll.id);
    const page = await ask<{ edges: { node: { id: string } }[]; pageInfo: { hasNextPage: boolean } }>(
      server.graphql,
      '{ polls(first: 5) { edges { node { id results { version } } } pageInfo { hasNextPage } } }',
      {},
      poll.manage,
    );
    expect(page).toEqual({
      edges: [{ node: { id: poll.id, results: { version: 1 } } }],
      pageInfo: { hasNextPage: false },
    });
    const bad = await operate(server.graphql, '{ polls(after: "x") { edges { cursor } } }', {}, poll.manage);
    expect(bad.errors?.[0]).toMatchObject({
      message: expect.stringContaining('after'),
      extensions: { code: 'INVALID_INPUT' },
    });
  });
});
