/** The page at `/graphql`: GraphiQL, which opens with operations that create a poll, watch it and vote in it. */
import { createHash } from 'node:crypto';
import type { GraphiQLOptions } from 'graphql-yoga';

const TABS = [
  {
    query: `# 1. Create a poll.
# Copy its id and a choice's id into the next tabs.
mutation CreatePoll($input: CreatePollInput!) {
  createPoll(input: $input) {
    ... on CreatePollSuccess {
      organizerKey
      poll { id joinCode choices { id label } }
    }
    ... on Error { message }
  }
}`,
    variables: JSON.stringify({ input: { question: 'Tabs or spaces?', choices: ['Tabs', 'Spaces'] } }, null, 2),
  },
  {
    query: `# 2. Watch it. Leave this running here,
# and vote in another window of your browser.
subscription Watch($pollId: ID!) {
  pollResults(pollId: $pollId) {
    version
    ballotCount
    isFinal
    tallies { label votes share }
  }
}`,
    variables: JSON.stringify({ pollId: 'the id of your poll' }, null, 2),
  },
  {
    query: `# 3. Vote. Your browser keeps the voter token:
# a second vote is UNCHANGED or refused.
mutation Vote($input: CastVoteInput!) {
  castVote(input: $input) {
    ... on CastVoteSuccess {
      receipt { outcome version }
    }
    ... on Error { __typename message }
  }
}`,
    variables: JSON.stringify({ input: { pollId: 'the id of your poll', choiceIds: ['the id of a choice'] } }, null, 2),
  },
];

export const GRAPHIQL: GraphiQLOptions = { title: 'Pollcast', subscriptionsProtocol: 'WS', defaultTabs: TABS };

/**
 * GraphiQL opens tabs that it was given without the variables of the first (graphql/graphiql#3392).
 * Tabs that it finds in its storage are as they should be: there they are put, unless it was here before.
 */
const STORED = {
  query: TABS[0]?.query,
  variables: TABS[0]?.variables,
  tabState: JSON.stringify({
    activeTabIndex: 0,
    tabs: TABS.map(({ query, variables }, index) => {
      const operationName = /^(?:mutation|subscription) (\w+)/m.exec(query)?.[1] ?? '';
      const rest = { hash: null, headers: null, response: null, operationName, title: operationName };
      return { id: `pollcast-${index + 1}`, query, variables, ...rest };
    }),
  }),
};

// Its tabs jump away under the mouse: pressing the button focuses the tab, and a transform that was meant for dragging applies.
const SEED = `<style>.graphiql-tab { transform: none !important; }</style>
<script>
  if (localStorage.getItem('graphiql:tabState') === null) {
    for (const [name, value] of Object.entries(${JSON.stringify(STORED).replaceAll('<', '\\u003c')})) {
      localStorage.setItem('graphiql:' + name, value);
    }
  }
</script>`;

let page: Promise<string> | null = null;

/** 9 MB, all of it from here: made when somebody opens it first. */
export function renderPage(options: GraphiQLOptions): Promise<string> {
  page ??= import('@graphql-yoga/render-graphiql').then(({ renderGraphiQL }) =>
    guarded(renderGraphiQL(options).replace('<div id="root"></div>', (root) => root + SEED)),
  );
  return page;
}

let policy = "default-src 'none'";

/** What the page may do: run its own scripts, each known by its hash, and speak with this server; nobody may frame it. */
function guarded(html: string): string {
  const scripts = [...html.matchAll(/<script>([\s\S]*?)<\/script>/g)].map(([, code = '']) => {
    const hash = createHash('sha256').update(code.replace(/\r\n?/g, '\n'));
    return `'sha256-${hash.digest('base64')}'`;
  });
  policy = [
    "default-src 'none'",
    `script-src ${scripts.join(' ')}`,
    "style-src 'unsafe-inline'",
    "img-src 'self' data:",
    'font-src data:',
    // The editor's workers are made from its own script.
    'worker-src blob:',
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; ');
  return html;
}

/** What goes out with a page. */
export function pageHeaders(): Readonly<Record<string, string>> {
  return {
    'content-security-policy': policy,
    'x-content-type-options': 'nosniff',
    'x-frame-options': 'DENY',
    'referrer-policy': 'same-origin',
    'cross-origin-opener-policy': 'same-origin',
  };
}
