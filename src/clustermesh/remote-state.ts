import type { MirroredKind } from './layout.ts';
import type { Relay } from './mirror-report.ts';
import type { Outage, RemoteState } from './remote-status.ts';
import type { RemoteNodeVerdict } from './verdicts.ts';

/** What a reader knows of how it hears one remote cluster. Times are milliseconds of its monotonic clock. */
export interface RemoteFacts {
  readonly now: number;
  /** Kinds of objects that are read, and those that were listed completely. */
  readonly kinds: readonly MirroredKind[];
  readonly synced: ReadonlySet<MirroredKind>;
  readonly connected: boolean;
  /** Why nothing of it is used, though it is heard. */
  readonly refusal: string | undefined;
  /** What the mirror of the copy that is read says of the original; undefined where the original is read. */
  readonly relay: Relay | undefined;
  /** It has told that it has not even nodes any more. */
  readonly withdrawn: boolean;
  /** When the last heartbeat came, if that is too long ago. */
  readonly silentSince: number | undefined;
  readonly lostAt: number | undefined;
  /** The last failure, with its layer; '' where nothing has failed. */
  readonly failure: string;
  readonly deadSince: number | undefined;
  /** Own nodes that say that no node of it answers, and when one last said so. */
  readonly unheardBy: readonly string[];
  readonly unheardUntil: number;
  /** Nodes of it that ours do not hear. */
  readonly accused: readonly RemoteNodeVerdict[];
  /** It was heard once, and what is known now may have been overtaken. */
  readonly silent: boolean;
  /** It says itself that it does not see its own nodes die. */
  readonly blind: boolean;
}

export function stateOf(facts: RemoteFacts): RemoteState {
  const { synced, withdrawn } = facts;
  if (facts.refusal !== undefined) return 'refused';
  if (facts.deadSince !== undefined) return 'dead';
  if (!facts.connected) return synced.size && !withdrawn ? 'stale' : 'disconnected';
  if (missing(facts).length) return synced.size ? 'syncing' : 'connected';
  const told = facts.relay?.state;
  if (told) return told === 'stale' && withdrawn ? 'disconnected' : told;
  return facts.silentSince === undefined ? 'ready' : 'stale';
}

/** The state in one line for people. */
export function describeState(facts: RemoteFacts): string {
  const { now, relay, connected, withdrawn, failure, silentSince, lostAt } = facts;
  const state = stateOf(facts);
  if (state === 'refused') return facts.refusal ?? relay?.describe(now) ?? '';
  if (state === 'dead') return describeDeath(facts);
  if (state === 'ready') return 'ready';
  if (relay && connected && !missing(facts).length) return relay.describe(now);
  if (state === 'disconnected' && !withdrawn) return failure || 'not connected yet';
  if (state === 'connected' || state === 'syncing')
    return `synchronization in progress for ${missing(facts)
      .map(kind => shown[kind])
      .join(', ')}`;
  if (connected && silentSince !== undefined)
    return `no heartbeat for ${Math.round((now - silentSince) / 1000)} s: what is known of it is that old`;
  const age = lostAt === undefined ? 0 : Math.round((now - lostAt) / 1000);
  if (withdrawn)
    return `not connected for ${age} s; before, it took back all it had told, as with clustermesh disable or uninstall: ${failure}`;
  return `not connected for ${age} s, what is known of it is that old: ${failure}`;
}

function describeDeath({
  now,
  relay,
  connected,
  failure,
  deadSince,
  unheardBy,
  unheardUntil,
}: RemoteFacts): string {
  const what = `dead for ${Math.round((now - deadSince!) / 1000)} s: no new connections are sent to it`;
  const by = unheardBy.join(', ');
  const why = relay && connected ? relay.describe(now) : failure;
  if (by) return `${what}; none of its nodes answers ${by}, nor its control plane: ${why}`;
  const back = Math.round((now - unheardUntil) / 1000);
  return connected && (relay?.answers ?? true)
    ? `${what}; its nodes and its control plane answer again, what it says is being read`
    : `${what}; its nodes answer again for ${back} s, its control plane does not: ${why}`;
}

/** What our probes found while it is not dead, in a line each. */
export function probeWarnings({ deadSince, unheardBy, silent, blind, accused }: RemoteFacts): string[] {
  if (deadSince !== undefined) return [];
  const warnings = unheardBy.length
    ? [
        `none of its nodes answers ${unheardBy.join(', ')}, but its control plane does: its backends stay in service`,
      ]
    : [];
  if (blind)
    warnings.push(
      'its own API server does not answer its control plane: which of its nodes are dead our probes say',
    );
  if (!silent) return warnings;
  for (const { node, by, agreed } of accused)
    if (agreed)
      warnings.push(
        `its node ${node} does not answer ${by.join(', ')}, and its control plane cannot say whether it is dead`,
      );
  return warnings;
}

/** Of two outages, of the copy that is read and of the original, the one that ended last. */
export function laterOutage(a: Outage | undefined, b: Outage | undefined): Outage | undefined {
  return a && b ? (a.age < b.age ? a : b) : (a ?? b);
}

const missing = ({ kinds, synced }: RemoteFacts): MirroredKind[] => kinds.filter(kind => !synced.has(kind));

const shown: Readonly<Record<MirroredKind, string>> = {
  nodes: 'nodes',
  identities: 'identities',
  ip: 'endpoints',
  services: 'services',
  serviceexports: 'service exports',
  endpointslices: 'endpoint slices',
};
