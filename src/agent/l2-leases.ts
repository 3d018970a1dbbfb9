/** One node answers for a service's addresses: the one that holds the service's Lease. */
import type { KubeClient } from '../kube/client.ts';
import { Lease } from '../kube/objects.ts';
import { pathOf, resources, typeOf } from '../kube/resource.ts';
import { isAlreadyExists, isConflict, isNotFound } from '../kube/status.ts';
import { microTime } from '../kube/time.ts';
import { type ReadonlyTable, Table } from '../table/table.ts';
import type { L2Candidate } from './l2-addresses.ts';

const PREFIX = 'cilium-l2announce-';

/** A lease as the API server has it. */
export interface L2Lease {
  readonly name: string;
  readonly version: string;
  /** '': free. */
  readonly holder: string;
  /** Milliseconds a holder may be silent. */
  readonly duration: number;
  readonly acquired: string | undefined;
  readonly transitions: number;
}

export const l2LeasesTable = (): Table<L2Lease> =>
  new Table<L2Lease>({ name: 'l2-leases', keyOf: row => row.name });

/** Undefined for leases that are not of services. */
export function l2LeaseRow({ metadata, spec }: Lease): L2Lease | undefined {
  if (!metadata.name.startsWith(PREFIX)) return undefined;
  return {
    name: metadata.name,
    version: metadata.resourceVersion,
    holder: spec?.holderIdentity ?? '',
    duration: (spec?.leaseDurationSeconds ?? 0) * 1000,
    acquired: spec?.acquireTime ?? undefined,
    transitions: spec?.leaseTransitions ?? 0,
  };
}

/** Cilium's name of the lease of `namespace/name`. */
export const leaseName = (service: string): string => `${PREFIX}${service.replace('/', '-')}`;

export interface L2LeaseOptions {
  readonly client: KubeClient;
  /** Where the leases are: the agents' namespace. */
  readonly namespace: string;
  /** Name of this node. */
  readonly node: string;
  /** Services this node competes for. */
  readonly candidates: ReadonlyTable<L2Candidate>;
  /** All leases of services, followed by a watch. */
  readonly leases: ReadonlyTable<L2Lease>;
  /** True while the service exists: its lease is then given back, and otherwise deleted. */
  readonly exists: (service: string) => boolean;
  /** Milliseconds after which a silent holder is no holder any more. */
  readonly duration: number;
  /** Milliseconds between renewals of a lease that is held. */
  readonly renew: number;
  /** Milliseconds before a renewal that failed is tried again. */
  readonly retry: number;
  readonly signal: AbortSignal;
  readonly onError: (service: string, error: Error) => void;
}

/** What this node does about one service's lease. */
interface Claim {
  readonly service: string;
  readonly name: string;
  /** The lease as we wrote it last; undefined while another holds it. */
  own: L2Lease | undefined;
  /** Start of the last renewal that succeeded, on our own clock. */
  renewed: number;
  /** No attempt before this moment. */
  notBefore: number;
  /** Version of a watch event that says another holds what we think is ours, once it has been looked into. */
  doubted: string | undefined;
  writing: boolean;
  timer: NodeJS.Timeout | undefined;
}

/**
 * Keeps the table of services whose lease this node holds. By the rules of client-go a lease is free when its
 * holder has not changed it for its duration on our own clock; the changes come by one watch of all leases, so
 * that only holders cause requests. The end of the process gives nothing back: a restarted agent goes on, and
 * the programs answer meanwhile.
 */
export class L2Leases {
  readonly #options: L2LeaseOptions;
  readonly #held = new Table<L2Candidate>({
    name: 'l2-held',
    keyOf: row => row.service,
    equal: () => true,
  });
  readonly #claims = new Map<string, Claim>();
  /** Lease → when its present version was seen first, on our own clock. */
  readonly #seen = new Map<string, number>();

  constructor(options: L2LeaseOptions) {
    this.#options = options;
    const { candidates, leases, signal } = options;
    for (const name of leases.keys()) this.#seen.set(name, performance.now());
    const byLease = new Map<string, string>();
    leases.subscribe(({ key, after }) => {
      if (after) this.#seen.set(key, performance.now());
      else this.#seen.delete(key);
      const claim = this.#claims.get(byLease.get(key) ?? '');
      if (claim) this.#consider(claim);
    });
    const claim = (service: string): void => {
      const name = leaseName(service);
      byLease.set(name, service);
      const found: Claim = {
        service,
        name,
        own: undefined,
        renewed: 0,
        notBefore: 0,
        doubted: undefined,
        writing: false,
        timer: undefined,
      };
      this.#claims.set(service, found);
      this.#consider(found);
    };
    for (const { service } of candidates.values()) claim(service);
    candidates.subscribe(({ key, after }) => {
      if (after) claim(key);
      else this.#renounce(key);
    });
    signal.addEventListener('abort', () => {
      for (const each of this.#claims.values()) clearTimeout(each.timer);
    });
    void Promise.all([candidates.whenSynced(), leases.whenSynced()]).then(() => {
      for (const each of this.#claims.values()) this.#consider(each);
      this.#held.markSynced();
    });
  }

  /** Services whose addresses this node answers for. */
  get held(): ReadonlyTable<L2Candidate> {
    return this.#held;
  }

  /** Does what is due about a lease, and sees to being called again when something will be. */
  #consider(claim: Claim): void {
    const { leases, node, renew, duration, signal } = this.#options;
    clearTimeout(claim.timer);
    if (signal.aborted || claim.writing || !leases.synced || this.#claims.get(claim.service) !== claim)
      return;
    const now = performance.now();
    const seen = leases.get(claim.name);
    const mine = claim.own ?? (seen?.holder === node ? seen : undefined);
    let due = claim.notBefore;
    if (mine) {
      // Found as ours by a restarted agent: renewed at once, and believed no longer than any other.
      if (!claim.own) claim.renewed = now - renew;
      claim.own = mine;
      this.#held.upsert({ service: claim.service });
      const doubt = seen && seen.holder !== node && seen.version !== claim.doubted;
      if (doubt) claim.doubted = seen.version;
      else due = Math.max(due, claim.renewed + renew);
      // Nobody has heard of us for too long: another may have it.
      if (now - claim.renewed > duration) this.#held.delete(claim.service);
    } else {
      this.#held.delete(claim.service);
      // One whose duration is not known is given ours.
      const silence = seen?.duration || duration;
      if (seen?.holder) due = Math.max(due, (this.#seen.get(claim.name) ?? now) + silence);
    }
    if (now >= due) void this.#write(claim, mine ?? seen);
    else claim.timer = setTimeout(() => this.#consider(claim), due - now).unref();
  }

  /** Makes the lease ours, or still ours, if it is as given. */
  async #write(claim: Claim, lease: L2Lease | undefined): Promise<void> {
    const { client, namespace, renew, retry } = this.#options;
    const started = performance.now();
    // An API server that does not answer must not keep us from seeing that our time is over.
    const timeout = Math.min(5000, Math.max(1000, renew));
    claim.writing = true;
    try {
      const body = this.#object(claim, lease);
      const answer = lease
        ? await client.request('PUT', pathOf(resources.leases, { namespace, name: claim.name }), {
            body,
            timeout,
            schema: Lease,
          })
        : await client.request('POST', pathOf(resources.leases, { namespace }), {
            body,
            timeout,
            schema: Lease,
          });
      claim.own = l2LeaseRow(answer);
      claim.renewed = started;
      claim.notBefore = 0;
    } catch (error) {
      // Another was quicker, or it was deleted: the watch is about to say so.
      if (isConflict(error) || isNotFound(error) || isAlreadyExists(error)) claim.own = undefined;
      else this.#options.onError(claim.service, error instanceof Error ? error : new Error(String(error)));
      claim.notBefore = performance.now() + retry;
    }
    claim.writing = false;
    if (this.#claims.get(claim.service) === claim) this.#consider(claim);
    else if (claim.own) await this.#giveBack(claim);
  }

  /** This node competes no more. */
  #renounce(service: string): void {
    const claim = this.#claims.get(service);
    this.#claims.delete(service);
    this.#held.delete(service);
    clearTimeout(claim?.timer);
    if (claim?.own && !claim.writing) void this.#giveBack(claim);
  }

  async #giveBack(claim: Claim): Promise<void> {
    const { client, namespace, exists, onError } = this.#options;
    const path = pathOf(resources.leases, { namespace, name: claim.name });
    const { version: resourceVersion } = claim.own!;
    try {
      if (exists(claim.service)) {
        const body = this.#object(claim, claim.own, '');
        await client.request('PUT', path, { body, timeout: 2000 });
      } else await client.delete(path, { preconditions: { resourceVersion } });
    } catch (error) {
      // It expires by itself.
      if (!isConflict(error) && !isNotFound(error))
        onError(claim.service, error instanceof Error ? error : new Error(String(error)));
    }
  }

  #object(claim: Claim, lease: L2Lease | undefined, holder = this.#options.node): object {
    const { namespace, node, duration } = this.#options;
    const now = microTime();
    const renews = lease?.holder === node;
    return {
      ...typeOf(resources.leases),
      metadata: { name: claim.name, namespace, ...(lease ? { resourceVersion: lease.version } : {}) },
      spec: {
        holderIdentity: holder,
        leaseDurationSeconds: Math.max(1, Math.ceil(duration / 1000)),
        acquireTime: renews ? (lease.acquired ?? now) : now,
        renewTime: now,
        leaseTransitions: (lease?.transitions ?? 0) + (lease && !renews ? 1 : 0),
      },
    };
  }
}
