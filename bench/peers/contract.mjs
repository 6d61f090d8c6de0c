// The part of Pollcast's schema that the bench exercises, for the GraphQL peers.
export const typeDefs = /* GraphQL */ `
  enum PollStatus { DRAFT OPEN CLOSED }
  enum VoteOutcome { RECORDED UNCHANGED REPLACED }
  type Choice { id: ID! label: String! position: Int! }
  type ChoiceTally { choiceId: ID! label: String! votes: Int! share: Float! }
  type RunoffRound { number: Int! tallies: [ChoiceTally!]! eliminated: [Choice!]! exhausted: Int! }
  type Runoff { rounds: [RunoffRound!]! winner: Choice }
  type RatingBucket { value: Int! votes: Int! }
  type RatingSummary { mean: Float median: Float histogram: [RatingBucket!]! }
  type PollResults {
    pollId: ID!
    version: Int!
    status: PollStatus!
    isFinal: Boolean!
    ballotCount: Int!
    tallies: [ChoiceTally!]
    runoff: Runoff
    rating: RatingSummary
    updatedAt: String!
  }
  type VoteReceipt { id: ID! pollId: ID! outcome: VoteOutcome! version: Int! castAt: String! }
  interface Error { message: String! }
  type CastVoteSuccess { receipt: VoteReceipt! voterToken: String }
  type NotFoundError implements Error { message: String! }
  type NotAllowedError implements Error { message: String! }
  type AlreadyVotedError implements Error { message: String! }
  type InvalidBallotError implements Error { message: String! }
  union CastVoteResult = CastVoteSuccess | NotFoundError | NotAllowedError | AlreadyVotedError | InvalidBallotError
  input CastVoteInput { pollId: ID! choiceIds: [ID!] rating: Int code: String voterToken: String }
  type Query { pollResults(pollId: ID!): PollResults }
  type Mutation { castVote(input: CastVoteInput!): CastVoteResult! }
  type Subscription { pollResults(pollId: ID!): PollResults! }
`;
