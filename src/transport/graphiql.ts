/** The page at `/graphql`: GraphiQL, which opens with operations that create a poll, watch it and vote in it. */
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
    renderGraphiQL(options).replace('<div id="root"></div>', (root) => root + SEED),
  );
  return page;
}
