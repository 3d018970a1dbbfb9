import { setTimeout as sleep } from 'node:timers/promises';
import type { KubeClient } from './client.ts';
import { Lease } from './objects.ts';
import { pathOf, resources, typeOf } from './resource.ts';
import { isAlreadyExists, isConflict, isNotFound } from './status.ts';
import { microTime } from './time.ts';

export interface LeaseOptions {
  readonly namespace: string;
  readonly name: string;
  /** Unique among the candidates, e.g. the pod's name. */
  readonly identity: string;
  readonly signal: AbortSignal;
  /** Milliseconds after which others may take a lease that is not renewed. */
  readonly duration?: number;
  /** Milliseconds without a successful renewal after which the leader steps down by itself; less than `duration`. */
  readonly deadline?: number;
  /** Milliseconds between attempts to acquire or renew. */
  readonly interval?: number;
  /** Something failed and will be tried again. */
  readonly onError?: (error: Error) => void;
  /** Who leads now, whenever that changes. */
  readonly onLeader?: (identity: string) => void;
}

/**
 * Leader election on a coordination.k8s.io Lease, by the rules of client-go: a lease is free when its holder
 * has not changed it for its duration on our own clock. Calls `run` each time we lead; its signal aborts when
 * leadership is lost or `options.signal` does, and a new term starts only after `run` has ended. An orderly
 * end gives the lease back, so that the next candidate need not wait.
 */
export async function lead(
  client: KubeClient,
  options: LeaseOptions,
  run: (leading: AbortSignal) => Promise<void>,
): Promise<void> {
  const { signal, interval = 2000, deadline = 10_000, onError } = options;
  const candidate = new Candidate(client, options);
  const rest = () =>
    sleep(interval * (0.9 + Math.random() / 5), undefined, { signal }).catch(() => undefined);
  const attempt = async (): Promise<boolean | undefined> => {
    try {
      return await candidate.take();
    } catch (error) {
      if (!signal.aborted) onError?.(error instanceof Error ? error : new Error(String(error)));
      return undefined;
    }
  };
  while (!signal.aborted) {
    if (!(await attempt())) {
      await rest();
      continue;
    }
    const term = new AbortController();
    let failure: { error: unknown } | undefined;
    const work = run(term.signal)
      .catch((error: unknown) => {
        failure = { error };
      })
      .finally(() => term.abort());
    let renewed = performance.now();
    while (!signal.aborted && !term.signal.aborted) {
      await Promise.race([rest(), work]);
      if (signal.aborted || term.signal.aborted) break;
      const held = await attempt();
      if (held) renewed = performance.now();
      else if (held === false || performance.now() - renewed > deadline) break;
    }
    term.abort();
    await work;
    await candidate.release().catch(() => undefined);
    if (failure) throw failure.error;
  }
}

class Candidate {
  readonly #client: KubeClient;
  readonly #options: LeaseOptions;
  readonly #collection: string;
  readonly #path: string;
  #seen: { version: string; at: number; holder: string } | undefined;
  /** The lease as we last wrote it: renewed without reading it again. */
  #held: Lease | undefined;

  constructor(client: KubeClient, options: LeaseOptions) {
    this.#client = client;
    this.#options = options;
    this.#collection = pathOf(resources.leases, { namespace: options.namespace });
    this.#path = pathOf(resources.leases, { namespace: options.namespace, name: options.name });
  }

  /** True: the lease is ours, and fresh. False: another's. Throws when that cannot be known. */
  async take(): Promise<boolean> {
    const { identity, duration = 15_000 } = this.#options;
    if (this.#held && (await this.#write(this.#held))) return true;
    let lease: Lease;
    try {
      lease = await this.#client.get(this.#path, Lease, { timeout: 5000 });
    } catch (error) {
      if (!isNotFound(error)) throw error;
      return this.#create();
    }
    const holder = lease.spec?.holderIdentity ?? '';
    if (this.#seen?.version !== lease.metadata.resourceVersion) {
      if (this.#seen?.holder !== holder && holder && holder !== identity) this.#options.onLeader?.(holder);
      this.#seen = { version: lease.metadata.resourceVersion, at: performance.now(), holder };
    }
    const term = (lease.spec?.leaseDurationSeconds ?? duration / 1000) * 1000;
    if (holder && holder !== identity && performance.now() - this.#seen.at < term) return false;
    if (!(await this.#write(lease))) return false;
    if (holder !== identity) this.#options.onLeader?.(identity);
    return true;
  }

  /** Makes the lease ours, or still ours, if it is as given; false when somebody has changed it. */
  async #write(lease: Lease): Promise<boolean> {
    const { namespace, name, identity, duration = 15_000 } = this.#options;
    const renews = lease.spec?.holderIdentity === identity;
    const now = microTime();
    const body = {
      ...typeOf(resources.leases),
      metadata: { name, namespace, resourceVersion: lease.metadata.resourceVersion },
      spec: {
        holderIdentity: identity,
        leaseDurationSeconds: Math.ceil(duration / 1000),
        acquireTime: renews ? (lease.spec?.acquireTime ?? now) : now,
        renewTime: now,
        leaseTransitions: (lease.spec?.leaseTransitions ?? 0) + (renews ? 0 : 1),
      },
    };
    try {
      this.#held = await this.#client.request('PUT', this.#path, { body, timeout: 5000, schema: Lease });
      return true;
    } catch (error) {
      this.#held = undefined;
      if (isConflict(error) || isNotFound(error)) return false;
      throw error;
    }
  }

  /** Gives the lease up, if it is still ours. */
  async release(): Promise<void> {
    this.#held = undefined;
    const lease = await this.#client.get(this.#path, Lease, { timeout: 2000 });
    if (lease.spec?.holderIdentity !== this.#options.identity) return;
    const { resourceVersion } = lease.metadata;
    const spec = { holderIdentity: '', leaseDurationSeconds: 1, renewTime: microTime() };
    await this.#client.patch(this.#path, 'merge', { metadata: { resourceVersion }, spec }, { timeout: 2000 });
    this.#seen = undefined;
  }

  async #create(): Promise<boolean> {
    const { namespace, name, identity, duration = 15_000 } = this.#options;
    const now = microTime();
    try {
      await this.#client.create(this.#collection, {
        ...typeOf(resources.leases),
        metadata: { namespace, name },
        spec: {
          holderIdentity: identity,
          leaseDurationSeconds: Math.ceil(duration / 1000),
          acquireTime: now,
          renewTime: now,
          leaseTransitions: 0,
        },
      });
    } catch (error) {
      if (isAlreadyExists(error)) return false;
      throw error;
    }
    this.#options.onLeader?.(identity);
    return true;
  }
}
