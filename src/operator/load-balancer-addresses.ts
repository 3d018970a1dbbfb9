/**
 * Addresses of services of type LoadBalancer: pools and services → who has which address → what is to be
 * changed in the status of services and pools.
 */
import {
  CiliumLoadBalancerIPPool,
  type PoolRow,
  poolConditions,
  poolRow,
} from '../api/crds/load-balancer-ip-pool.ts';
import {
  cleanupFinalizerPatch,
  isCleanupFinalizerOurs,
  type LoadBalancerService,
  LoadBalancerServiceObject,
  loadBalancerService,
  SATISFIED,
} from '../api/load-balancer-service.ts';
import { serviceKey } from '../api/service.ts';
import type { KubeClient } from '../kube/client.ts';
import type { EventRecorder } from '../kube/events.ts';
import { type BadObject, type Reflection, reflect } from '../kube/reflect.ts';
import { pathOf, resources, typeOf } from '../kube/resource.ts';
import { AddressAllocation, type Assignment, type PoolState } from '../loadbalancer/address-allocation.ts';
import { Reconciler, type Target } from '../table/reconciler.ts';
import { type Change, Table } from '../table/table.ts';
import { sameCondition, sinceOf, type WantedCondition, withTime } from './condition.ts';
import { eachObject } from './each-object.ts';

export interface LoadBalancerAddressOptions {
  readonly client: KubeClient;
  /** Address families the cluster has, the one preferred first. */
  readonly families: readonly (4 | 6)[];
  /** Services that have their addresses get the finalizer of a load balancer. */
  readonly cleanupFinalizer: boolean;
  readonly events: EventRecorder;
  readonly signal: AbortSignal;
  readonly onBad: (path: string, bad: BadObject) => void;
  /** A watch or a write failed and will be tried again. */
  readonly onError: (what: string, error: Error) => void;
}

/** What is to be changed in a Service's status, and of its finalizers. */
export interface ServiceFix {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly addresses: readonly string[];
  /** Undefined: the condition goes. */
  readonly condition: WantedCondition | undefined;
  /** Undefined: stays as it is. */
  readonly finalizer: 'add' | 'remove' | undefined;
}

/** What is to be changed in a pool's status. */
export interface PoolFix {
  readonly name: string;
  readonly conditions: readonly WantedCondition[];
}

/** Starts to give addresses. The definition of pools must be installed. Resolves when the signal aborts. */
export async function assignLoadBalancerAddresses(options: LoadBalancerAddressOptions): Promise<void> {
  const { client, signal } = options;
  const services = new Table<LoadBalancerService>({
    name: 'load balancer services',
    keyOf: serviceKey,
    equal: (a, b) => JSON.stringify(a) === JSON.stringify(b),
  });
  const pools = new Table<PoolRow>({ name: 'address pools', keyOf: row => row.name });
  const report = (path: string) => ({
    signal,
    onBad: (bad: BadObject) => options.onBad(path, bad),
    onError: (error: Error) => options.onError(`watch ${path}`, error),
  });
  const servicesPath = pathOf(resources.services);
  const poolsPath = pathOf(resources.loadBalancerIPPools);
  const watches: Reflection[] = [
    reflect(client, {
      path: servicesPath,
      schema: LoadBalancerServiceObject,
      table: services,
      toRow: object => {
        const row = loadBalancerService(object, options.families);
        // Of any other service nothing is known and nothing is written.
        return row.ours || row.condition ? row : undefined;
      },
      ...report(servicesPath),
    }),
    reflect(client, {
      path: poolsPath,
      schema: CiliumLoadBalancerIPPool,
      table: pools,
      toRow: poolRow,
      ...report(poolsPath),
    }),
  ];
  const { serviceFixes, poolFixes } = deriveAddressFixes({
    services,
    pools,
    cleanupFinalizer: options.cleanupFinalizer,
    events: options.events,
    signal,
  });
  const failed = (what: string) => ({
    signal,
    batch: 32,
    onError: (key: string, error: Error) => options.onError(`status of ${what} ${key}`, error),
  });
  new Reconciler(serviceFixes, serviceStatusTarget(client), failed('service'));
  new Reconciler(poolFixes, poolStatusTarget(client), failed('pool'));
  await Promise.all(watches.map(each => each.done));
}

/**
 * Tables of what is to be changed, kept from the moment both inputs are synced. A service whose status says
 * what it should has no row.
 */
export function deriveAddressFixes({
  services,
  pools,
  cleanupFinalizer,
  events,
  signal,
}: {
  readonly services: Table<LoadBalancerService>;
  readonly pools: Table<PoolRow>;
  readonly cleanupFinalizer: boolean;
  readonly events: Pick<EventRecorder, 'warn'>;
  readonly signal: AbortSignal;
}): { readonly serviceFixes: Table<ServiceFix>; readonly poolFixes: Table<PoolFix> } {
  const same = <Row>(a: Row, b: Row): boolean => JSON.stringify(a) === JSON.stringify(b);
  const serviceFixes = new Table<ServiceFix>({ name: 'service statuses', keyOf: serviceKey, equal: same });
  const poolFixes = new Table<PoolFix>({ name: 'pool statuses', keyOf: row => row.name, equal: same });
  const allocation = new AddressAllocation();
  const changed = new Set<string>();
  const told = new Map<string, string>();
  let poolsChanged = true;
  let scheduled = false;

  const run = (): void => {
    scheduled = false;
    if (signal.aborted || !services.synced || !pools.synced) return;
    const keys = [...changed];
    changed.clear();
    const touched = allocation.update({
      ...(poolsChanged ? { pools: pools.values() } : {}),
      changed: keys.flatMap(key => services.get(key) ?? []),
      removed: keys.filter(key => !services.has(key)),
    });
    for (const key of new Set([...keys, ...touched])) {
      const service = services.get(key);
      const assignment = allocation.get(key);
      const fix = service && assignment && serviceFix(service, assignment, cleanupFinalizer);
      if (fix) serviceFixes.upsert(fix);
      else serviceFixes.delete(key);
      const verdict = assignment?.verdict;
      if (!service || !touched.has(key) || !verdict || verdict.satisfied) continue;
      const { namespace, name, uid } = service;
      events.warn(
        { apiVersion: 'v1', kind: 'Service', namespace, name, uid },
        'LoadBalancerAddressMissing',
        verdict.message,
      );
    }
    poolsChanged = false;
    // Pools are few: what is left to give is counted for all of them.
    fixPools();
  };
  const fixPools = (): void => {
    poolFixes.replace(allocation.pools.flatMap(state => poolFix(state) ?? []));
    for (const { pool, conflict } of allocation.pools) {
      const messages = [...pool.problems, ...(conflict ? [conflict] : [])].join('; ');
      if (messages && told.get(pool.name) !== messages) {
        const of = { ...typeOf(resources.loadBalancerIPPools), name: pool.name, uid: pool.uid };
        for (const each of pool.problems) events.warn(of, 'InvalidPool', each);
        if (conflict) events.warn(of, 'PoolConflict', `${conflict}: no address is given out of this pool`);
      }
      told.set(pool.name, messages);
    }
  };
  const schedule = (): void => {
    if (scheduled) return;
    scheduled = true;
    queueMicrotask(run);
  };
  for (const key of services.keys()) changed.add(key);
  services.subscribe(({ key }) => {
    changed.add(key);
    schedule();
  });
  pools.subscribe((change: Change<PoolRow>) => {
    // A status that we wrote ourselves decides nothing.
    if (change.before?.spec !== change.after?.spec || change.before?.created !== change.after?.created)
      poolsChanged = true;
    else if (change.after) allocation.renewPool(change.after);
    schedule();
  });
  void Promise.all([services.whenSynced(), pools.whenSynced()]).then(() => {
    schedule();
    serviceFixes.markSynced();
    poolFixes.markSynced();
  });
  return { serviceFixes, poolFixes };
}

/** Undefined where the service is as it should be. */
export function serviceFix(
  service: LoadBalancerService,
  assignment: Assignment,
  cleanupFinalizer: boolean,
): ServiceFix | undefined {
  const { namespace, name, uid, present, entries, condition } = service;
  const { addresses, verdict } = assignment;
  const wanted = verdict && {
    type: SATISFIED,
    status: verdict.satisfied ? 'True' : 'False',
    reason: verdict.reason,
    message: verdict.message,
    observedGeneration: service.generation,
  };
  const sameAddresses = entries === addresses.length && addresses.every(each => present.includes(each));
  const finalizer = finalizerChange(
    service,
    cleanupFinalizer && verdict?.satisfied === true && !service.deleting,
  );
  if (sameAddresses && sameCondition(condition, wanted) && !finalizer) return undefined;
  return {
    namespace,
    name,
    uid,
    addresses,
    condition: wanted && { ...wanted, since: sinceOf(condition, wanted.status) },
    finalizer,
  };
}

function finalizerChange(service: LoadBalancerService, wanted: boolean): ServiceFix['finalizer'] {
  if (wanted) return service.finalizer ? undefined : 'add';
  return isCleanupFinalizerOurs(service) ? 'remove' : undefined;
}

/** Undefined where the status is as it should be. */
export function poolFix({ pool, conflict, total, used }: PoolState): PoolFix | undefined {
  const free = total - BigInt(used);
  const count = (type: string, message: string) => ({ type, status: 'Unknown', reason: 'noreason', message });
  const wanted = [
    conflict
      ? { type: poolConditions.conflict, status: 'True', reason: 'cidr_overlap', message: conflict }
      : { type: poolConditions.conflict, status: 'False', reason: 'resolved', message: '' },
    count(poolConditions.total, String(total)),
    count(poolConditions.available, String(free < 0n ? 0n : free)),
    count(poolConditions.used, String(used)),
  ].map(each => ({ ...each, observedGeneration: pool.generation }));
  const presentOf = (type: string) => pool.conditions.find(each => each.type === type);
  if (wanted.every(each => sameCondition(presentOf(each.type), each))) return undefined;
  return {
    name: pool.name,
    conditions: wanted.map(each => ({ ...each, since: sinceOf(presentOf(each.type), each.status) })),
  };
}

function serviceStatusTarget(client: KubeClient): Target<ServiceFix> {
  return eachObject(async row => {
    const { namespace, name, uid, addresses, condition, finalizer } = row;
    const ingress = addresses.length ? addresses.map(ip => ({ ip })) : null;
    const conditions = [condition ? withTime(condition) : { type: SATISFIED, $patch: 'delete' }];
    const path = pathOf(resources.services, { namespace, name, subresource: 'status' });
    // Finalizers, too, may be written with the status, so both change at once and the spec is nobody's to write here.
    // The UID keeps it from a successor of the same name.
    await client.patch(path, 'strategic', {
      metadata: { uid, ...(finalizer && cleanupFinalizerPatch[finalizer]) },
      status: { loadBalancer: { ingress }, conditions },
    });
  });
}

function poolStatusTarget(client: KubeClient): Target<PoolFix> {
  return eachObject(async ({ name, conditions }) => {
    const path = pathOf(resources.loadBalancerIPPools, { name, subresource: 'status' });
    await client.apply(path, {
      ...typeOf(resources.loadBalancerIPPools),
      metadata: { name },
      status: { conditions: conditions.map(withTime) },
    });
  });
}
