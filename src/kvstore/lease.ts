import type { EtcdConnection } from './connection.ts';
import { EtcdFailure } from './failure.ts';

export interface LeaseOptions {
  /** Seconds a key outlives its writer. Default 900, as Cilium's kvstore-lease-ttl. */
  readonly ttl?: number;
  /** Keys on one lease before another is taken. Default 1000: etcd slows down with more. */
  readonly keysPerLease?: number;
}

interface Lease {
  readonly id: bigint;
  readonly keys: Set<string>;
  /** Granted to an earlier process. */
  readonly adopted?: boolean;
}

/**
 * Which lease each key is bound to: grants leases as keys come, keeps them alive, notices their loss. Leases of an
 * earlier process live until each of their keys has been written again.
 */
export class Leases {
  readonly ttl: number;
  readonly #keysPerLease: number;
  #leases: Lease[] = [];
  readonly #ofKey = new Map<string, Lease>();
  readonly #adopted = new Map<bigint, Lease>();
  #clusterId: bigint | undefined;

  constructor({ ttl = 900, keysPerLease = 1000 }: LeaseOptions = {}) {
    this.ttl = ttl;
    this.#keysPerLease = keysPerLease;
  }

  get count(): number {
    return this.#leases.length;
  }

  /** The lease `key` is to be put with. */
  async bind(connection: EtcdConnection, key: string): Promise<bigint> {
    const bound = this.#ofKey.get(key);
    if (bound && !bound.adopted) return bound.id;
    if (bound) this.release(key);
    let lease = this.#leases.find(each => !each.adopted && each.keys.size < this.#keysPerLease);
    if (!lease) {
      const granted = await connection.lease.leaseGrant({ TTL: BigInt(this.ttl) });
      if (granted.error) throw new EtcdFailure('etcd', `lease: ${granted.error}`);
      this.#clusterId = connection.clusterId;
      lease = { id: granted.ID, keys: new Set() };
      this.#leases.push(lease);
    }
    lease.keys.add(key);
    this.#ofKey.set(key, lease);
    return lease.id;
  }

  /** Takes over a key that an earlier process has bound; 0 is no lease. */
  adopt(connection: EtcdConnection, key: string, id: bigint): void {
    if (id === 0n || this.#ofKey.has(key)) return;
    this.#clusterId ??= connection.clusterId;
    let lease = this.#adopted.get(id);
    if (!lease) {
      lease = { id, keys: new Set(), adopted: true };
      this.#adopted.set(id, lease);
      this.#leases.push(lease);
    }
    lease.keys.add(key);
    this.#ofKey.set(key, lease);
  }

  /** Forgets a deleted key, which makes room on its lease. */
  release(key: string): void {
    const lease = this.#ofKey.get(key);
    this.#ofKey.delete(key);
    lease?.keys.delete(key);
    if (!lease?.adopted || lease.keys.size) return;
    this.#adopted.delete(lease.id);
    this.#leases = this.#leases.filter(each => each !== lease);
  }

  /** Renews every lease. Resolves to the keys whose lease etcd no longer has: they are gone or about to go. */
  async keepAlive(connection: EtcdConnection, signal: AbortSignal): Promise<string[]> {
    if (!this.#leases.length) return [];
    if (this.#clusterId !== connection.clusterId) return this.forgetAll();
    const alive = await connection.keepAlive(
      this.#leases.map(({ id }) => id),
      signal,
    );
    const lost = this.#leases.filter(({ id }) => !alive.has(id));
    this.#leases = this.#leases.filter(({ id }) => alive.has(id));
    for (const { id } of lost) this.#adopted.delete(id);
    return lost.flatMap(lease => this.#unbind(lease));
  }

  /** Forgets all leases, as after etcd lost its data; resolves to the keys that were bound. */
  forgetAll(): string[] {
    const lost = this.#leases;
    this.#leases = [];
    this.#adopted.clear();
    this.#clusterId = undefined;
    return lost.flatMap(lease => this.#unbind(lease));
  }

  #unbind(lease: Lease): string[] {
    for (const key of lease.keys) this.#ofKey.delete(key);
    return [...lease.keys];
  }
}
