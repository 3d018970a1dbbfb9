/** What follows from what single probers say: pure, the same for everybody who reads the same. */
import type { Unreachable } from '../api/unreachable.ts';

/** What one node says of others. */
export interface Accusation extends Unreachable {
  readonly by: string;
}

/** A node that two of its probers do not hear. */
export interface NodeVerdict {
  readonly node: string;
  /** Who says so, sorted. */
  readonly by: readonly string[];
  /** False: it is kept in service, because most nodes look dead at once, or because nodes accuse each other. */
  readonly dead: boolean;
}

/** A cluster none of whose nodes answers some of ours. */
export interface ClusterVerdict {
  readonly cluster: string;
  /** Who says so, sorted. */
  readonly by: readonly string[];
  /** They are two, or all there are. Before that it is only a reason to look at its control plane. */
  readonly agreed: boolean;
}

/** A node of another cluster that some of ours do not hear. It counts only while its own cluster cannot speak. */
export interface RemoteNodeVerdict {
  readonly cluster: string;
  readonly node: string;
  /** Who says so, sorted. */
  readonly by: readonly string[];
  /** They are two, or all there are. Before that it is only a reason to look at its cluster's control plane. */
  readonly agreed: boolean;
}

/** So many have to agree. In a cluster of two nodes there is only one to ask. */
export const QUORUM = 2;
/** Who cannot be told what others say judges for itself alone: whom it does not hear is of no use to its own pods. */
export const ALONE = 1;

/** The nodes there are. */
export interface Members {
  readonly size: number;
  has(node: string): boolean;
}

/**
 * A node is dead when two others say so whose word counts. The word of a dead node does not. Where nodes accuse one
 * another, those are dead that most others accuse, and then their own word is void: the many judge the few. Of
 * nodes that accuse each other on equal terms none is dead. If more than half of the nodes would be dead, something
 * else is wrong than these nodes: then none is added to those that `wasDead` says were dead before.
 * `enough`: so many have to say so.
 */
export function judgeNodes(
  accusations: Iterable<Accusation>,
  members: Members,
  wasDead: (node: string) => boolean,
  enough: number = QUORUM,
): NodeVerdict[] {
  const quorum = Math.max(1, Math.min(enough, members.size - 1));
  const accusers = new Map<string, string[]>();
  for (const { by, nodes } of accusations) {
    if (!members.has(by)) continue;
    for (const node of new Set(nodes))
      if (node !== by && members.has(node)) accusers.set(node, [...(accusers.get(node) ?? []), by]);
  }
  for (const [node, by] of accusers) if (by.length < quorum) accusers.delete(node);

  const heard = (node: string, deaf: (by: string) => boolean): number =>
    accusers.get(node)!.filter(by => !deaf(by)).length;
  const suspect = (node: string): boolean => accusers.has(node) && wasDead(node);
  const before = new Set(
    [...accusers.keys()].filter(node => suspect(node) && heard(node, suspect) >= quorum),
  );
  const dead = new Set(before);
  const unclear = new Set<string>();
  for (;;) {
    const open = [...accusers.keys()]
      .filter(node => !dead.has(node))
      .map(node => ({ node, count: heard(node, by => dead.has(by)) }))
      .filter(({ count }) => count >= quorum);
    const most = Math.max(...open.map(({ count }) => count));
    const group = open.flatMap(({ node, count }) => (count === most ? [node] : []));
    const found = group.filter(
      node => heard(node, by => dead.has(by) || (by !== node && group.includes(by))) >= quorum,
    );
    for (const node of found) dead.add(node);
    if (found.length) continue;
    for (const { node } of open) unclear.add(node);
    break;
  }
  const tooMany = (dead.size + unclear.size) * 2 > members.size;
  return [...dead, ...unclear]
    .map(node => ({
      node,
      by: accusers.get(node)!.sort(),
      dead: tooMany ? before.has(node) : dead.has(node),
    }))
    .sort((a, b) => (a.node < b.node ? -1 : 1));
}

/** What nodes say of other clusters that are not dead themselves. */
export function judgeClusters(
  accusations: Iterable<Accusation>,
  members: Members,
  dead: ReadonlySet<string>,
  enough: number = QUORUM,
): ClusterVerdict[] {
  return agreement(accusations, members, dead, enough, 'clusters').map(({ name, ...word }) => ({
    cluster: name,
    ...word,
  }));
}

/** What nodes say of other clusters' nodes that are not dead themselves. */
export function judgeRemoteNodes(
  accusations: Iterable<Accusation>,
  members: Members,
  dead: ReadonlySet<string>,
  enough: number = QUORUM,
): RemoteNodeVerdict[] {
  return agreement(accusations, members, dead, enough, 'remoteNodes').flatMap(({ name, ...word }) => {
    const [cluster = '', node = ''] = name.split('/');
    return cluster && node ? [{ cluster, node, ...word }] : [];
  });
}

/** Whom nodes accuse that are not dead themselves, by name, and whether enough of them do. */
function agreement(
  accusations: Iterable<Accusation>,
  members: Members,
  dead: ReadonlySet<string>,
  enough: number,
  of: 'clusters' | 'remoteNodes',
): { readonly name: string; readonly by: string[]; readonly agreed: boolean }[] {
  const quorum = Math.max(1, Math.min(enough, members.size - dead.size));
  const accusers = new Map<string, string[]>();
  for (const { by, [of]: names } of accusations) {
    if (!members.has(by) || dead.has(by)) continue;
    for (const name of new Set(names)) accusers.set(name, [...(accusers.get(name) ?? []), by]);
  }
  return [...accusers]
    .map(([name, by]) => ({ name, by: by.sort(), agreed: by.length >= quorum }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}
