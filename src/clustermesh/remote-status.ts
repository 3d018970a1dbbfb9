import type { FailureLayer } from '../kvstore/failure.ts';
import type { MirroredKind } from './layout.ts';

/**
 * disconnected: there is no connection and nothing that is used, as before the first one and after it has left;
 * connected: nothing has been read yet; refused: heard, but its configuration cannot be accepted; syncing: not
 * everything is known yet; ready; stale: what is known is used and not confirmed any more; dead: neither its control
 * plane nor its nodes answer, so that what is known is kept and not used.
 */
export const remoteStates = [
  'disconnected',
  'connected',
  'refused',
  'syncing',
  'ready',
  'stale',
  'dead',
] as const;
export type RemoteState = (typeof remoteStates)[number];

/** A time in which a cluster could not be heard, in seconds: how long it was, and since when all has been read anew. */
export interface Outage {
  readonly seconds: number;
  readonly age: number;
}

/** What is known of one remote cluster, and how old it is. Ages are seconds by the reader's own monotonic clock. */
export interface RemoteClusterStatus {
  readonly name: string;
  readonly ready: boolean;
  readonly state: RemoteState;
  /** One line for people. */
  readonly status: string;
  readonly connected: boolean;
  readonly endpoint: string | undefined;
  /** Hexadecimal. */
  readonly etcdClusterId: string | undefined;
  readonly clusterId: number | undefined;
  readonly cached: boolean;
  /** Pod of the mirror whose copy is read and that says how it hears the original. */
  readonly mirror: string | undefined;
  /** Of the kinds that are followed. */
  readonly synced: Readonly<Partial<Record<MirroredKind, boolean>>>;
  readonly counts: Readonly<Partial<Record<MirroredKind, number>>>;
  readonly failures: number;
  /** Values found to be not as in its etcd though nothing had failed, and mended; since the start. */
  readonly repaired: number;
  readonly lastFailure:
    | { readonly layer: FailureLayer; readonly message: string; readonly age: number }
    | undefined;
  /** Since the cluster's own clock was last seen to move on; undefined before the first heartbeat. */
  readonly heartbeatAge: number | undefined;
  /** Since the connection was lost; 0 while connected, undefined when there never was one. */
  readonly disconnectedAge: number | undefined;
  /** The last time it could not be heard: for how long, and since when everything has been read anew. */
  readonly lastOutage: Outage | undefined;
  /** Since it was given up for dead; undefined while it is not. */
  readonly deadAge: number | undefined;
  /** Own nodes that say that no node of it answers their probes. */
  readonly unheardBy: readonly string[];
  /** Values that were refused since the start. */
  readonly refusals: number;
  /** Values that are refused now, at most a hundred: key → why. The last good value of the key is in force, if there was one. */
  readonly refused: Readonly<Record<string, string>>;
  readonly warnings: readonly string[];
}
