/** Which of the endpoints on file still exist. Pure. */
import type { Link } from '../datapath/link.ts';
import { type Endpoint, endpointKey } from './endpoint.ts';

export interface Judged {
  /** Their devices are there; `ifindex` is what the kernel says now. */
  readonly live: readonly Endpoint[];
  /** The plugin was at work when the agent went away, and may come back: their addresses stay taken. */
  readonly creating: readonly Endpoint[];
  readonly dead: readonly { readonly endpoint: Endpoint; readonly reason: string }[];
}

/** An endpoint's device is known by its name and by the alias the plugin gave it. */
export function judgeEndpoints(onFile: readonly Endpoint[], links: readonly Link[]): Judged {
  const byName = new Map(links.map(link => [link.name, link]));
  const live: Endpoint[] = [];
  const creating: Endpoint[] = [];
  const dead: { endpoint: Endpoint; reason: string }[] = [];
  const taken = new Set<string>();
  // Of two that claim one thing, the one with a device is right.
  const hasDevice = (endpoint: Endpoint): boolean =>
    byName.get(endpoint.hostIfName)?.alias === endpointKey(endpoint);
  const ordered = [...onFile].sort((a, b) => Number(hasDevice(b)) - Number(hasDevice(a)) || a.id - b.id);
  for (const endpoint of ordered) {
    const claims = [`ip ${endpoint.ipv4}`, `key ${endpointKey(endpoint)}`, `id ${endpoint.id}`];
    const double = claims.find(each => taken.has(each));
    const link = byName.get(endpoint.hostIfName);
    if (double) dead.push({ endpoint, reason: `another endpoint has its ${double}` });
    else if (endpoint.state === 'creating') creating.push({ ...endpoint, ifindex: 0 });
    else if (!link) dead.push({ endpoint, reason: `device ${endpoint.hostIfName} is gone` });
    else if (!hasDevice(endpoint))
      dead.push({ endpoint, reason: `device ${endpoint.hostIfName} is of ${link.alias || 'somebody else'}` });
    else live.push({ ...endpoint, ifindex: link.index, state: 'ready' });
    if (dead.at(-1)?.endpoint !== endpoint) for (const each of claims) taken.add(each);
  }
  return { live, creating, dead };
}
