/**
 * Which addresses services of type LoadBalancer have, out of which pools (LB IPAM). No I/O and no clock: the
 * outcome follows from the pools, the services, and who holds what.
 *
 * The rules: what a service holds it keeps as long as its pool and its own request allow. A service whose
 * object has changed is judged after all others, so that a change costs whoever made it. Then the services that
 * lack something are served, the oldest first, each with an address it can share, or the lowest free one of the
 * first pool that selects it.
 */
import { type IpRange, inRange, type PoolRow } from '../api/crds/load-balancer-ip-pool.ts';
import { formatIp, type IpAddress, parseIp } from '../api/ip-address.ts';
import type { LoadBalancerService } from '../api/load-balancer-service.ts';
import { serviceKey } from '../api/service.ts';

/** What a service's status is to say. */
export interface Assignment {
  readonly addresses: readonly string[];
  /** Undefined: the condition is not ours to set, and is removed. */
  readonly verdict: Verdict | undefined;
}

export interface Verdict {
  readonly satisfied: boolean;
  /** As Cilium's where Cilium has one: satisfied, no_pool, pool_selector_mismatch, out_of_ips, already_allocated… */
  readonly reason: string;
  readonly message: string;
}

/** What a pool's status is to say. */
export interface PoolState {
  readonly pool: PoolRow;
  /** Why nothing is given out of it: it overlaps an older pool, or itself. */
  readonly conflict: string | undefined;
  /** Addresses that can be given to services. */
  readonly total: bigint;
  readonly used: number;
}

export interface AllocationChange {
  /** All pools, where any has changed. */
  readonly pools?: Iterable<PoolRow>;
  readonly changed?: readonly LoadBalancerService[];
  /** `namespace/name` of services that are gone. */
  readonly removed?: readonly string[];
}

interface Entry {
  readonly key: string;
  service: LoadBalancerService;
  held: readonly string[];
  verdict: Verdict | undefined;
}

interface Pool {
  readonly row: PoolRow;
  readonly conflict: string | undefined;
  used: number;
}

const satisfied: Verdict = { satisfied: true, reason: 'satisfied', message: '' };

export class AddressAllocation {
  /** The oldest first. Those without a conflict do not overlap. */
  #pools: readonly Pool[] = [];
  readonly #entries = new Map<string, Entry>();
  /** Address → keys of the services that hold it. */
  readonly #holders = new Map<string, Set<string>>();
  /** Sharing key → addresses that are held with it. */
  readonly #shared = new Map<string, Set<string>>();
  /** Services of ours that lack something. */
  readonly #waiting = new Set<string>();
  /** No address of the range is free below this one. */
  readonly #lowest = new Map<IpRange, bigint>();

  /** Takes a change in; returns the services whose assignment is another now, those that are gone not among them. */
  update({ pools, changed = [], removed = [] }: AllocationChange): ReadonlySet<string> {
    const before = new Map<string, string>();
    let freed = false;
    for (const key of removed) {
      const entry = this.#entries.get(key);
      if (!entry) continue;
      freed = entry.held.length > 0 || freed;
      this.#letGo(entry);
      this.#entries.delete(key);
      this.#waiting.delete(key);
    }
    const latest = new Map(changed.map(each => [serviceKey(each), each]));
    const others = pools ? [...this.#entries.values()].filter(each => !latest.has(each.key)) : [];
    const subjects = [...latest].map(([key, service]) => this.#entries.get(key) ?? newEntry(key, service));
    for (const entry of [...others, ...subjects]) {
      before.set(entry.key, this.#textOf(entry.key));
      const service = latest.get(entry.key) ?? entry.service;
      // Ports, namespaces, policy: whoever wanted to share with it may now be able to.
      if (entry.service.sharingKey || service.sharingKey) freed = true;
      if (this.#entries.has(entry.key)) this.#letGo(entry);
    }
    if (pools) this.#setPools(pools);
    for (const entry of subjects) entry.service = latest.get(entry.key)!;
    const judged = [...others.sort(byAge), ...subjects.sort(byAge)];
    for (const entry of judged) {
      const known = this.#entries.has(entry.key);
      this.#entries.set(entry.key, entry);
      const claims = known ? entry.held : entry.service.present;
      entry.held = [];
      for (const address of claims)
        if (!entry.held.includes(address) && this.#mayKeep(entry, address)) this.#take(entry, address);
      if (known && entry.held.length < claims.length) freed = true;
    }

    const waiting = freed || pools ? this.#waitingEntries() : [];
    for (const entry of [...new Set([...judged, ...waiting])].sort(byAge)) {
      if (!before.has(entry.key)) before.set(entry.key, this.#textOf(entry.key));
      this.#serve(entry);
    }
    return new Set([...before].flatMap(([key, text]) => (this.#textOf(key) === text ? [] : [key])));
  }

  /** Undefined where the service's status is left as it is: it is not ours, or there has never been a pool. */
  get(key: string): Assignment | undefined {
    const entry = this.#entries.get(key);
    if (!entry) return undefined;
    // Another load balancer may serve the cluster as long as nobody has made a pool.
    const dormant = !entry.service.ours || this.#pools.length === 0;
    if (dormant && !entry.service.condition) return undefined;
    return { addresses: entry.held, verdict: entry.verdict };
  }

  /** Takes a pool's row that differs in its status only. */
  renewPool(row: PoolRow): void {
    this.#pools = this.#pools.map(each =>
      each.row.name === row.name ? { ...each, row: { ...row, ranges: each.row.ranges } } : each,
    );
  }

  get pools(): readonly PoolState[] {
    return this.#pools.map(({ row, conflict, used }) => ({
      pool: row,
      conflict,
      used,
      total: row.ranges.reduce((sum, each) => sum + sizeOf(each), 0n),
    }));
  }

  /** Gives the service what it lacks, as far as there is any. */
  #serve(entry: Entry): void {
    const { service, key } = entry;
    if (!service.ours) entry.verdict = undefined;
    else if (service.problem !== undefined) entry.verdict = refused('invalid_request', service.problem);
    else if (service.requested.length) entry.verdict = this.#serveRequested(entry);
    else entry.verdict = this.#serveFamilies(entry);
    if (entry.verdict && !entry.verdict.satisfied) this.#waiting.add(key);
    else this.#waiting.delete(key);
  }

  #serveRequested(entry: Entry): Verdict {
    let verdict = satisfied;
    for (const address of entry.service.requested) {
      if (entry.held.includes(address)) continue;
      const obstacle = this.#obstacle(entry, address);
      if (!obstacle) this.#take(entry, address);
      else if (verdict === satisfied) verdict = obstacle;
    }
    return verdict;
  }

  #serveFamilies(entry: Entry): Verdict {
    let verdict = satisfied;
    for (const family of entry.service.families) {
      if (entry.held.some(each => parseIp(each)?.family === family)) continue;
      const found = this.#choose(entry, family);
      if (typeof found === 'string') this.#take(entry, found);
      else if (verdict === satisfied) verdict = found;
    }
    return verdict;
  }

  /** An address for a service that takes any. */
  #choose(entry: Entry, family: 4 | 6): string | Verdict {
    const { service } = entry;
    const usable = this.#pools.filter(
      each => !each.conflict && !each.row.disabled && each.row.selects(service.labels),
    );
    for (const address of this.#sharedAddresses(service.sharingKey)) {
      const ip = parseIp(address)!;
      if (ip.family === family && usable.some(each => contains(each, ip)) && !this.#clash(entry, address))
        return address;
    }
    const ranges = usable.flatMap(each => each.row.ranges.filter(range => range.family === family));
    for (const range of ranges) {
      const value = this.#lowestFree(range);
      if (value !== undefined) return formatIp({ family, value });
    }
    return ranges.length
      ? refused(
          'out_of_ips',
          `every enabled CiliumLoadBalancerIPPool with IPv${family} addresses for this service is used up`,
        )
      : refused(
          'no_pool',
          `no enabled CiliumLoadBalancerIPPool with IPv${family} addresses selects this service`,
        );
  }

  /** Why a service cannot have an address it asks for. */
  #obstacle(entry: Entry, address: string): Verdict | undefined {
    const ip = parseIp(address)!;
    const containing = this.#pools.filter(each => contains(each, ip));
    const pool =
      containing.find(each => !each.conflict && !each.row.disabled) ??
      containing.find(each => !each.conflict) ??
      containing[0];
    if (!pool) return refused('no_pool', `no CiliumLoadBalancerIPPool contains ${address}`);
    const { row, conflict } = pool;
    if (conflict || row.disabled)
      return refused(
        'no_pool',
        `pool ${row.name} contains ${address}, but ${conflict ? 'is in conflict with another' : 'is disabled'}`,
      );
    if (!row.selects(entry.service.labels))
      return refused(
        'pool_selector_mismatch',
        `pool ${row.name} contains ${address}, but does not select this service`,
      );
    const range = row.ranges.find(each => inRange(each, ip))!;
    if (isReserved(range, ip.value))
      return refused(
        'reserved',
        `${address} is the first or last address of ${range.text}, which pool ${row.name} reserves (allowFirstLastIPs: No)`,
      );
    return this.#clash(entry, address);
  }

  /** Who else has the address and does not share it. */
  #clash(entry: Entry, address: string): Verdict | undefined {
    for (const key of [...(this.#holders.get(address) ?? [])].sort()) {
      if (key === entry.key) continue;
      const { service } = this.#entries.get(key)!;
      if (!service.sharingKey || !entry.service.sharingKey)
        return refused('already_allocated', `${address} belongs to service ${key}`);
      const reason = unsharable(service, entry.service);
      if (reason)
        return refused(
          'already_allocated_incompatible_service',
          `${address} belongs to service ${key}, which cannot share it: ${reason}`,
        );
    }
    return undefined;
  }

  #mayKeep(entry: Entry, address: string): boolean {
    const { service } = entry;
    const ip = parseIp(address)!;
    if (!service.ours) return false;
    if (service.problem === undefined) {
      const asked = service.requested.length
        ? service.requested.includes(address)
        : service.families.includes(ip.family);
      if (!asked) return false;
    }
    if (!this.#pools.some(each => contains(each, ip) && each.row.selects(service.labels))) return false;
    return this.#clash(entry, address) === undefined;
  }

  #take(entry: Entry, address: string): void {
    entry.held = [...entry.held, address];
    const holders = this.#holders.get(address);
    if (holders) holders.add(entry.key);
    else {
      this.#holders.set(address, new Set([entry.key]));
      const pool = this.#poolOf(parseIp(address)!);
      if (pool) pool.used++;
    }
    const { sharingKey } = entry.service;
    if (!sharingKey) return;
    const shared = this.#shared.get(sharingKey);
    if (shared) shared.add(address);
    else this.#shared.set(sharingKey, new Set([address]));
  }

  /** Takes what the service holds off the books; `held` still names it. */
  #letGo(entry: Entry): void {
    for (const address of entry.held) {
      const holders = this.#holders.get(address);
      holders?.delete(entry.key);
      if (holders?.size) continue;
      this.#holders.delete(address);
      this.#shared.get(entry.service.sharingKey)?.delete(address);
      const ip = parseIp(address)!;
      const pool = this.#poolOf(ip);
      if (pool) pool.used--;
      for (const [range, lowest] of this.#lowest)
        if (inRange(range, ip) && ip.value < lowest) this.#lowest.set(range, ip.value);
    }
    if (!this.#shared.get(entry.service.sharingKey)?.size) this.#shared.delete(entry.service.sharingKey);
  }

  /** The one pool an address counts in. */
  #poolOf(ip: IpAddress): Pool | undefined {
    return (
      this.#pools.find(each => !each.conflict && contains(each, ip)) ??
      this.#pools.find(each => contains(each, ip))
    );
  }

  #lowestFree(range: IpRange): bigint | undefined {
    const first = range.endsReserved ? range.first + 1n : range.first;
    const last = range.endsReserved ? range.last - 1n : range.last;
    let value = this.#lowest.get(range) ?? first;
    if (value < first) value = first;
    while (value <= last && this.#holders.has(formatIp({ family: range.family, value }))) value++;
    this.#lowest.set(range, value);
    return value <= last ? value : undefined;
  }

  /** Nobody holds anything while this is called. */
  #setPools(rows: Iterable<PoolRow>): void {
    const sorted = [...rows].sort((a, b) => compare(a.created, b.created) || compare(a.name, b.name));
    const pools: Pool[] = [];
    for (const row of sorted) pools.push({ row, conflict: conflictOf(row, pools), used: 0 });
    this.#pools = pools;
    this.#lowest.clear();
  }

  #sharedAddresses(sharingKey: string): readonly string[] {
    if (!sharingKey) return [];
    const order = (text: string): bigint => parseIp(text)!.value;
    return [...(this.#shared.get(sharingKey) ?? [])].sort((a, b) => (order(a) < order(b) ? -1 : 1));
  }

  #textOf(key: string): string {
    return JSON.stringify(this.get(key) ?? null);
  }

  #waitingEntries(): Entry[] {
    return Array.from(this.#waiting, key => this.#entries.get(key)!);
  }
}

/** Why two services cannot have one address; undefined where they can. */
function unsharable(a: LoadBalancerService, b: LoadBalancerService): string | undefined {
  if (a.sharingKey !== b.sharingKey)
    return `it has sharing key "${a.sharingKey}", this service "${b.sharingKey}"`;
  if (a.namespace !== b.namespace && !(admits(a, b.namespace) && admits(b, a.namespace)))
    return `namespaces ${a.namespace} and ${b.namespace} do not both allow it (lbipam.cilium.io/sharing-cross-namespace)`;
  const port = a.ports.find(each => b.ports.includes(each));
  if (port) return `both have port ${port}`;
  if (a.externalTrafficPolicy !== b.externalTrafficPolicy)
    return `their externalTrafficPolicy differs (${a.externalTrafficPolicy}, ${b.externalTrafficPolicy})`;
  // Traffic policy Local brings the address's traffic to nodes with a backend: they must be the same nodes.
  if (a.externalTrafficPolicy === 'Local' && !sameLabels(a.selector, b.selector))
    return 'externalTrafficPolicy is Local and their selectors differ';
  return undefined;
}

const admits = (service: LoadBalancerService, namespace: string): boolean =>
  service.sharesWith.includes('*') || service.sharesWith.includes(namespace);

function sameLabels(a: Readonly<Record<string, string>>, b: Readonly<Record<string, string>>): boolean {
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every(key => a[key] === b[key]);
}

/** Why a pool cannot be used beside older ones. */
function conflictOf(row: PoolRow, older: readonly Pool[]): string | undefined {
  for (const [at, range] of row.ranges.entries()) {
    const twin = row.ranges.slice(0, at).find(each => overlap(each, range));
    if (twin) return `range ${range.text} overlaps range ${twin.text} of the same pool`;
    for (const other of older) {
      const found = other.conflict ? undefined : other.row.ranges.find(each => overlap(each, range));
      if (found)
        return `range ${range.text} overlaps range ${found.text} of the older pool ${other.row.name}`;
    }
  }
  return undefined;
}

const overlap = (a: IpRange, b: IpRange): boolean =>
  a.family === b.family && a.first <= b.last && b.first <= a.last;

const contains = (pool: Pool, ip: IpAddress): boolean => pool.row.ranges.some(each => inRange(each, ip));

const isReserved = (range: IpRange, value: bigint): boolean =>
  range.endsReserved && (value === range.first || value === range.last);

const sizeOf = (range: IpRange): bigint => range.last - range.first + 1n - (range.endsReserved ? 2n : 0n);

const refused = (reason: string, message: string): Verdict => ({ satisfied: false, reason, message });

const newEntry = (key: string, service: LoadBalancerService): Entry => ({
  key,
  service,
  held: [],
  verdict: undefined,
});

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

const byAge = (a: Entry, b: Entry): number =>
  compare(a.service.created, b.service.created) || compare(a.key, b.key);
