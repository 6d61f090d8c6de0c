/** A program that the server works with: the database, Redis. */

/** Something that the server works with, and that may be away. */
export interface Dependency {
  readonly name: string;
  /** Without it the instance cannot do its work; else it is only said to be degraded. */
  readonly needed: boolean;
  /** Resolves where it answers. It may take for ever. */
  readonly check: () => Promise<void>;
}
