import type { FailureLayer } from '../kvstore/failure.ts';
import type { Kind } from './layout.ts';

/**
 * connecting: never heard yet; refused: heard, but its configuration cannot be accepted; syncing: not
 * everything is known yet; ready; stale: what is known is not confirmed any more.
 */
export type RemoteState = 'connecting' | 'refused' | 'syncing' | 'ready' | 'stale';

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
  readonly synced: Readonly<Record<Kind, boolean>>;
  readonly counts: Readonly<Record<Kind, number>>;
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
  /** Values that were refused: key → why. The last good value of the key is in force, if there was one. */
  readonly refused: Readonly<Record<string, string>>;
  readonly warnings: readonly string[];
}
