import type { Entry } from '../kvstore/range.ts';
import type { ClusterConfig } from './cluster-config.ts';
import type { MirroredKind } from './layout.ts';
import type { Origin } from './values.ts';

/** What becomes of what one remote cluster says: rows of an agent's tables, or a mirror's copy. */
export interface RemoteConsumer {
  /** The kinds of objects to read. */
  readonly kinds: readonly MirroredKind[];
  /** Whether a kind that a cluster configured so exports is of use. Default: all are. */
  needs?(kind: MirroredKind, config: ClusterConfig): boolean;
  /** Milliseconds for which a kind stays that another has come in place of, once that is complete. Default 0. */
  readonly replacedFor?: number;
  /** Called with every configuration that was accepted, before anything else is read. */
  configured?(config: ClusterConfig): void;
  /** Called once for each kind, until everything was drained. */
  writer(kind: MirroredKind, origin: Origin): EntryWriter;
  /** A kind is complete, by the first list and by each one after a reconnection; also one of which the cluster has none. */
  listed?(kind: MirroredKind): void;
}

/** Writes the entries of one kind. They are named by what follows the prefix, which is the same in an original and a copy. */
export interface EntryWriter {
  /** @throws BadValue: the entry is refused, and what was there under its name stays */
  put(name: string, entry: Entry): void;
  delete(name: string): void;
}
