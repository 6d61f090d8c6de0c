import { describe, expect, test } from 'vitest';
import { decodeBallot, encodeBallot } from '../../src/core/ballot.ts';
import {
  changedSettings,
  differences,
  dueStatus,
  newSettings,
  type Poll,
  type PollInput,
  statusAt,
} from '../../src/core/poll.ts';
import { addContent, type Counts, countResults } from '../../src/core/tally.ts';

function poll(input: PollInput, status: Poll['status'] = 'OPEN'): Poll {
  return {
    ...newSettings({ question: 'Which?', ...input }),
    id: 'p',
    joinCode: 'ABCDEF',
    status,
    closedAt: null,
    createdAt: new Date(0),
    revision: 1,
    organizerKeyHash: '',
    owner: null,
  };
}

describe('settings', () => {
  test('one message names every mistake', () => {
    expect(() =>
      newSettings({
        question: 'x'.repeat(501),
        choices: ['a', 'a', ''],
        minChoices: 2,
        kind: 'SINGLE',
        ratingScale: { min: 1, max: 2 },
      }),
    ).toThrow(
      /question: 501 characters, at most 500.*choices\[1\]: "a" looks the same as choices\[0\].*choices\[2\]: must not be empty.*minChoices: is always 1.*ratingScale: a SINGLE poll has none/,
    );
  });

  test.each<[string, PollInput, RegExp]>([
    ['no question', { question: ' ', choices: ['a', 'b'] }, /question: must not be empty/],
    ['no choices', {}, /choices: missing/],
    ['one choice', { choices: ['a'] }, /choices: 1, must be 2 to 100/],
    ['101 choices', { choices: Array.from({ length: 101 }, (_, n) => `${n}`) }, /choices: 101/],
    ['a long label', { choices: ['a', 'b'.repeat(201)] }, /choices\[1\]: 201 characters, at most 200/],
    ['a NUL', { choices: ['a', 'b\0'] }, /choices\[1\]: holds the control character U\+0000/],
    ['a lone surrogate', { choices: ['a', '\ud800'] }, /choices\[1\]: holds half a character/],
    ['max above count', { kind: 'MULTIPLE', choices: ['a', 'b'], maxChoices: 3 }, /maxChoices: 3, but there are 2/],
    [
      'max below min',
      { kind: 'MULTIPLE', choices: ['a', 'b'], minChoices: 2, maxChoices: 1 },
      /maxChoices: 1, must not be below/,
    ],
    ['min 0', { kind: 'RANKED', choices: ['a', 'b'], minChoices: 0 }, /minChoices: 0, must be at least 1/],
    ['choices of a rating', { kind: 'RATING', choices: ['a', 'b'] }, /choices: a RATING poll has none/],
    ['an empty scale', { kind: 'RATING', ratingScale: { min: 3, max: 3 } }, /max 3 must be above min 3/],
    ['101 steps', { kind: 'RATING', ratingScale: { min: 0, max: 100 } }, /101 steps, at most 100/],
  ])('%s is refused', (_, input, message) => {
    expect(() => newSettings({ question: 'q', ...input })).toThrow(message);
  });

  test('what is left out has a sensible default', () => {
    expect(newSettings({ question: 'q', choices: ['a', 'b', 'c'], kind: 'RANKED' })).toMatchObject({
      minChoices: 1,
      maxChoices: 3,
    });
    expect(newSettings({ question: 'q', kind: 'RATING' })).toMatchObject({
      ratingScale: { min: 1, max: 5 },
      maxChoices: 0,
    });
  });

  test('a label that stays keeps its number; a new one gets one that was never used', () => {
    const draft = poll({ choices: ['a', 'b', 'c'], kind: 'MULTIPLE' }, 'DRAFT');
    const changed = changedSettings(draft, { choices: ['c', 'd'] });
    expect(changed.choices).toEqual([
      { n: 3, label: 'c' },
      { n: 4, label: 'd' },
    ]);
    expect(changed.maxChoices).toBe(2);
  });

  test('an open poll changes in its question, description, visibility and closing time only, a closed one not in the last', () => {
    const open = poll({ choices: ['a', 'b'] });
    const closed = poll({ choices: ['a', 'b'] }, 'CLOSED');
    const closesAt = new Date(9);
    const input = { question: 'new', description: 'more', resultsVisibility: 'ORGANIZERS' } as const;
    expect(changedSettings(open, { ...input, closesAt })).toMatchObject({ ...input, closesAt });
    expect(changedSettings(closed, input)).toMatchObject(input);
    expect(() => changedSettings(open, { choices: ['x', 'y'], allowVoteChange: true, opensAt: null })).toThrow(
      /^choices, allowVoteChange, opensAt: can be changed only while the poll is a DRAFT; this one is OPEN/,
    );
    expect(() => changedSettings(closed, { closesAt })).toThrow(/^closesAt: can be changed only .* this one is CLOSED/);
    expect(differences(open, changedSettings(open, { ...input, closesAt }))).toEqual([
      'question',
      'description',
      'resultsVisibility',
      'closesAt',
    ]);
    expect(differences(open, changedSettings(open, {}))).toEqual([]);
  });

  test('times: closesAt lies ahead and after opensAt, and once open only ahead', () => {
    const [early, late] = [new Date(1_000), new Date(2_000)];
    const input = { question: 'q', choices: ['a', 'b'] };
    expect(() => newSettings({ ...input, closesAt: early }, 1_000)).toThrow(/closesAt: must lie in the future/);
    expect(() => newSettings({ ...input, opensAt: late, closesAt: late }, 0)).toThrow(
      /closesAt: must be after opensAt/,
    );
    const draft = poll({ ...input, opensAt: late, closesAt: new Date(3_000) }, 'DRAFT');
    expect(() => changedSettings(draft, { closesAt: early }, 0)).toThrow(/must be after opensAt/);
    expect(changedSettings(draft, { opensAt: null, closesAt: early }, 0)).toMatchObject({ opensAt: null });
    // What is not touched is not held against the change.
    expect(changedSettings(draft, { description: 'x' }, 9_000)).toMatchObject({ description: 'x' });
    expect(changedSettings({ ...draft, status: 'OPEN' }, { closesAt: early }, 0)).toMatchObject({ closesAt: early });
  });

  test.each<[Poll['status'], number | null, number | null, number, string | null, string]>([
    ['DRAFT', 10, 20, 9, null, 'DRAFT'],
    ['DRAFT', 10, 20, 10, 'OPEN', 'DRAFT'],
    ['DRAFT', 10, 20, 20, 'CLOSED', 'DRAFT'],
    ['DRAFT', 10, null, 99, 'OPEN', 'DRAFT'],
    ['DRAFT', null, 20, 99, null, 'DRAFT'],
    ['OPEN', null, 20, 19, null, 'OPEN'],
    ['OPEN', 10, 20, 20, 'CLOSED', 'CLOSED'],
    ['OPEN', 99, 20, 20, 'CLOSED', 'CLOSED'],
    ['OPEN', 10, null, 99, null, 'OPEN'],
    ['CLOSED', 10, 20, 99, null, 'CLOSED'],
  ])('M6 %s, opens %s, closes %s: at %s due is %s, and it counts as %s', (status, opens, closes, now, due, counts) => {
    const instant = (ms: number | null) => (ms === null ? null : new Date(ms));
    const timed = { ...poll({ choices: ['a', 'b'] }, status), opensAt: instant(opens), closesAt: instant(closes) };
    expect([dueStatus(timed, now), statusAt(timed, now)]).toEqual([due, counts]);
  });
});

describe('ballots', () => {
  const single = poll({ choices: ['a', 'b', 'c'] });
  const multiple = poll({ kind: 'MULTIPLE', choices: ['a', 'b', 'c'], minChoices: 2, maxChoices: 2 });
  const ranked = poll({ kind: 'RANKED', choices: ['a', 'b', 'c'] });
  const rating = poll({ kind: 'RATING', ratingScale: { min: -2, max: 2 } });

  test.each([
    [single, { choiceIds: ['p.2'] }, '2'],
    [multiple, { choiceIds: ['p.3', 'p.1'] }, '1 3'],
    [ranked, { choiceIds: ['p.3', 'p.1'] }, '3,1'],
    [rating, { rating: -2 }, '-2'],
  ] as const)('$0.kind is kept in its one form and read back', (kind, input, content) => {
    expect(encodeBallot(kind, input)).toBe(content);
    const read = decodeBallot(kind, content);
    expect(encodeBallot(kind, read)).toBe(content);
  });

  test.each([
    ['unknown choice', single, { choiceIds: ['p.9'] }, /"p.9" is not a choice/],
    ['choice of another poll', single, { choiceIds: ['q.1'] }, /"q.1" is not a choice/],
    ['a number in another form', single, { choiceIds: ['p.01'] }, /not a choice/],
    ['repeated choice', multiple, { choiceIds: ['p.1', 'p.1'] }, /given twice/],
    ['too few', multiple, { choiceIds: ['p.1'] }, /1 given, this poll takes 2/],
    ['too many', single, { choiceIds: ['p.1', 'p.2'] }, /2 given, this poll takes 1/],
    ['nothing', ranked, {}, /0 given, this poll takes 1 to 3/],
    ['a rating where choices belong', single, { choiceIds: ['p.1'], rating: 1 }, /takes choiceIds/],
    ['outside the scale', rating, { rating: 3 }, /outside the scale of -2 to 2/],
    ['between the steps', rating, { rating: 0.5 }, /outside the scale/],
    ['no rating', rating, {}, /rating: missing/],
    ['choices where a rating belongs', rating, { choiceIds: ['p.1'], rating: 1 }, /takes a rating/],
  ] as const)('V7 %s is refused whole', (_, kind, input, message) => {
    expect(() => encodeBallot(kind, input)).toThrow(message);
  });
});

describe('results', () => {
  const count = (kind: Poll, contents: string[]) => {
    const counts: Counts = new Map();
    for (const content of contents) addContent(counts, content, 1);
    return countResults(kind, { version: 7, ballotCount: contents.length, updatedAt: 5 }, counts);
  };

  test('MULTIPLE: shares are of the ballots, not of the ticks', () => {
    const { tallies } = count(poll({ kind: 'MULTIPLE', choices: ['a', 'b'] }), ['1 2', '1', '1', '2']);
    expect(tallies.map(({ votes, share }) => [votes, share])).toEqual([
      [3, 0.75],
      [2, 0.5],
    ]);
  });

  test('RATING: mean, median and every bucket', () => {
    const rating = poll({ kind: 'RATING', ratingScale: { min: 1, max: 4 } });
    expect(count(rating, ['1', '4', '4', '3']).rating).toEqual({
      mean: 3,
      median: 3.5,
      histogram: [
        { value: 1, votes: 1 },
        { value: 2, votes: 0 },
        { value: 3, votes: 1 },
        { value: 4, votes: 2 },
      ],
    });
    expect(count(rating, []).rating).toMatchObject({ mean: null, median: null });
    expect(count(rating, ['1', '2', '2']).rating).toMatchObject({ median: 2 });
  });

  test('RANKED: first preferences are the tallies, the runoff has the rounds', () => {
    const { tallies, runoff } = count(poll({ kind: 'RANKED', choices: ['a', 'b', 'c'] }), [
      '1',
      '1',
      '2,1',
      '2',
      '3,2',
    ]);
    expect(tallies.map(({ votes }) => votes)).toEqual([2, 2, 1]);
    expect(runoff?.winner?.label).toBe('b');
    expect(runoff?.rounds.map(({ number, eliminated }) => [number, eliminated.map(({ label }) => label)])).toEqual([
      [1, ['c']],
      [2, []],
    ]);
  });

  test('what is added and taken away again leaves nothing behind', () => {
    const counts: Counts = new Map();
    addContent(counts, '1 3', 1);
    addContent(counts, '1 3', -1);
    expect(counts.size).toBe(0);
  });
});
