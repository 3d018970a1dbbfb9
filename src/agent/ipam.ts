/**
 * Addresses of this node's pods of one family, out of its pod CIDRs. In memory only: the truth is what exists (endpoints
 * whose devices live), and `claim` tells it to the pool at start.
 */
import { formatIp, type IpAddress, parseCidr, parseIp } from '../api/ip-address.ts';

export interface IpamOptions {
  /** The node's pod CIDRs of one family, e.g. ['10.1.2.0/24'] or ['fd00:10:1:2::/64']. At least one. */
  readonly cidrs: readonly string[];
  /** Addresses that no pod gets besides network and broadcast, e.g. the node's internal IP. */
  readonly reserved?: readonly string[];
  /** Milliseconds before a released address is given again, unless no other is left. Default 60 s. */
  readonly reuseAfter?: number;
  /** Milliseconds of a clock that does not go back. */
  readonly now: () => number;
}

export interface Ipam {
  /** An address nobody has, or undefined when all are taken. The same owner asking again gets the same. */
  allocate(owner: string): string | undefined;
  /** Takes a known address for an owner; false if it is another's. One outside the CIDRs is kept as it is. */
  claim(address: string, owner: string): boolean;
  /** Gives an owner's address back; false if it had none. */
  release(owner: string): boolean;
  addressOf(owner: string): string | undefined;
  readonly used: number;
  readonly capacity: number;
}

/** The first usable address of a CIDR: the node's internal IP, the pods' gateway. */
export function firstAddress(cidr: string): string {
  const { family, first } = rangeOf(cidr);
  return formatIp({ family, value: first });
}

export function createIpam(options: IpamOptions): Ipam {
  const ranges = options.cidrs.map(rangeOf);
  const family = ranges[0]?.family ?? 4;
  if (ranges.some(each => each.family !== family))
    throw new Error(`IPAM: ${options.cidrs.join(', ')} are not of one family`);
  const textOf = (value: bigint): string => formatIp({ family, value });
  const numberOf = (address: string): bigint => {
    const ip = parseIp(address);
    if (ip?.family !== family) throw new Error(`IPAM: ${address} is no IPv${family} address`);
    return ip.value;
  };
  const reserved = new Set((options.reserved ?? []).map(numberOf));
  // More than a number counts exactly in a /64, which is enough to say how full it is.
  const capacity =
    ranges.reduce((sum, { first, last }) => sum + (last < first ? 0 : Number(last - first + 1n)), 0) -
    [...reserved].filter(each => ranges.some(({ first, last }) => each >= first && each <= last)).length;
  const reuseAfter = options.reuseAfter ?? 60_000;
  const byOwner = new Map<string, bigint>();
  const byAddress = new Map<bigint, string>();
  // In order of release: the first entry is the one that has rested longest.
  const resting = new Map<bigint, number>();
  let range = 0;
  let cursor = ranges[0]?.first ?? 0n;

  const free = (address: bigint): boolean =>
    !byAddress.has(address) && !reserved.has(address) && !resting.has(address);
  const give = (address: bigint, owner: string): string => {
    byOwner.set(owner, address);
    byAddress.set(address, owner);
    resting.delete(address);
    return textOf(address);
  };
  const wakeRested = (): void => {
    const until = options.now() - reuseAfter;
    for (const [address, since] of resting) {
      if (since > until) return;
      resting.delete(address);
    }
  };
  /** Walks on from where the last search ended, so that a released address is the last to come again. */
  const search = (): bigint | undefined => {
    for (let left = capacity + reserved.size + ranges.length; left > 0; left--) {
      const current = ranges[range];
      if (!current) return undefined;
      if (cursor > current.last) {
        range = (range + 1) % ranges.length;
        cursor = ranges[range]!.first;
        continue;
      }
      const address = cursor++;
      if (free(address)) return address;
    }
    return undefined;
  };
  /** The longest rested one that a pod may have; a claimed address may lie outside the CIDRs. */
  const earliestResting = (): bigint | undefined => {
    for (const address of resting.keys())
      if (!reserved.has(address) && ranges.some(({ first, last }) => address >= first && address <= last))
        return address;
    return undefined;
  };

  return {
    allocate(owner) {
      const present = byOwner.get(owner);
      if (present !== undefined) return textOf(present);
      wakeRested();
      const address = search() ?? earliestResting();
      return address === undefined ? undefined : give(address, owner);
    },
    claim(address, owner) {
      const number = numberOf(address);
      const holder = byAddress.get(number);
      if (holder !== undefined) return holder === owner;
      if (byOwner.has(owner)) return false;
      give(number, owner);
      // Addresses given lately lie just before the cursor of the run before: do not start on top of them.
      const at = ranges.findIndex(({ first, last }) => number >= first && number <= last);
      if (at > range || (at === range && number >= cursor)) {
        range = at;
        cursor = number + 1n;
      }
      return true;
    },
    release(owner) {
      const address = byOwner.get(owner);
      if (address === undefined) return false;
      byOwner.delete(owner);
      byAddress.delete(address);
      resting.delete(address);
      resting.set(address, options.now());
      return true;
    },
    addressOf(owner) {
      const address = byOwner.get(owner);
      return address === undefined ? undefined : textOf(address);
    },
    get used() {
      return byOwner.size;
    },
    get capacity() {
      return capacity;
    },
  };
}

interface Range {
  readonly family: IpAddress['family'];
  readonly first: bigint;
  readonly last: bigint;
}

/**
 * Network and broadcast address are left out, but not of /31 and /32 (RFC 3021); of IPv6 the first, which is the
 * routers' anycast address (RFC 4291, 2.6.1), and the last, for the sake of one rule.
 */
function rangeOf(cidr: string): Range {
  const range = parseCidr(cidr);
  if (!range) throw new Error(`IPAM: ${cidr} is no CIDR`);
  const [first, last] = [range.first.value, range.last.value];
  const edge = last - first <= 1n ? 0n : 1n;
  return { family: range.first.family, first: first + edge, last: last - edge };
}
