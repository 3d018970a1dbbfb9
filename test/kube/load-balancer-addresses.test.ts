import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import * as z from 'zod';
import { LoadBalancerServiceObject, loadBalancerService } from '../../src/api/load-balancer-service.ts';
import { releaseServices } from '../../src/cli/release-services.ts';
import type { KubeClient } from '../../src/kube/client.ts';
import { EventRecorder } from '../../src/kube/events.ts';
import { pathOf, resources, typeOf } from '../../src/kube/resource.ts';
import { isNotFound } from '../../src/kube/status.ts';
import { installDefinitions } from '../../src/operator/crds.ts';
import { assignLoadBalancerAddresses } from '../../src/operator/load-balancer-addresses.ts';
import { plain, render } from '../chart/rendering.ts';
import { LocalApiServer, missingBinaries, until } from './local-api-server.ts';

const skip = missingBinaries() ?? false;
let api: LocalApiServer;
let admin: KubeClient;
let stop = new AbortController();
let running: Promise<void>;
const errors: string[] = [];

/** The operator gives addresses with the rights the chart gives it, and no others. */
before(async () => {
  if (skip) return;
  api = await LocalApiServer.start();
  admin = api.client('admin');
  for (const object of await render(plain))
    if (/^(Cluster)?Role(Binding)?$/.test(object.kind)) {
      const { name, namespace } = object.metadata;
      const scope = namespace ? `/namespaces/${namespace}` : '';
      const path = `/apis/rbac.authorization.k8s.io/v1${scope}/${object.kind.toLowerCase()}s/${name}`;
      await admin.apply(path, object);
    }
  await installDefinitions(admin, { signal: stop.signal });
  start();
});
after(async () => {
  stop.abort();
  await running;
  await api?.[Symbol.asyncDispose]();
});

function start({ cleanupFinalizer = false } = {}): void {
  const client = api.client('operator', 'isthmus-operator');
  stop = new AbortController();
  running = assignLoadBalancerAddresses({
    client,
    families: [4],
    cleanupFinalizer,
    events: new EventRecorder({ client, onError: error => errors.push(`event: ${error.message}`) }),
    signal: stop.signal,
    onBad: (path, { object, error }) => errors.push(`${path} ${object}: ${error.message}`),
    onError: (what, error) => errors.push(`${what}: ${error.message}`),
  });
}

const pool = (name: string, spec: object, version = 'v2'): Promise<unknown> =>
  admin.apply(`/apis/cilium.io/${version}/ciliumloadbalancerippools/${name}`, {
    apiVersion: `cilium.io/${version}`,
    kind: 'CiliumLoadBalancerIPPool',
    metadata: { name },
    spec,
  });

const service = (name: string, spec: object = {}, annotations = {}): Promise<unknown> =>
  admin.apply(pathOf(resources.services, { namespace: 'default', name }), {
    ...typeOf(resources.services),
    metadata: { name, annotations },
    spec: { type: 'LoadBalancer', ports: [{ port: 80 }], ...spec },
  });

/** Addresses and reason of the condition: '192.0.2.1 satisfied'. */
async function status(name: string): Promise<string> {
  const path = pathOf(resources.services, { namespace: 'default', name });
  const row = loadBalancerService(await admin.get(path, LoadBalancerServiceObject), [4]);
  return [...row.present, row.condition?.reason ?? 'no condition'].join(' ');
}

const is = (name: string, expected: string): Promise<void> => {
  let found = '';
  return until(`${name}: ${expected}`, async () => {
    found = await status(name);
    return found === expected;
  }).catch((error: unknown) => {
    throw new Error(`${error}; found ${found}; ${errors.join('; ')}`);
  });
};

const Table = z.object({
  columnDefinitions: z.array(z.object({ name: z.string() })),
  rows: z.array(z.object({ cells: z.array(z.unknown()) })),
});

async function poolRows(): Promise<string[]> {
  const accept = 'application/json;as=Table;g=meta.k8s.io;v=v1';
  const { rows } = await admin.get(pathOf(resources.loadBalancerIPPools), Table, { accept });
  return rows.map(each => each.cells.slice(0, 4).join(' '));
}

const Events = z.object({
  items: z.array(
    z.object({ reason: z.string(), message: z.string(), involvedObject: z.object({ name: z.string() }) }),
  ),
});
async function events(): Promise<string[]> {
  const { items } = await admin.get(pathOf(resources.events), Events);
  return items.map(each => `${each.involvedObject.name} ${each.reason}: ${each.message}`);
}

test('a service waits for a pool, untouched, and gets an address with the first one', { skip }, async () => {
  await service('web');
  await service('other', { loadBalancerClass: 'example.com/other' });
  assert.equal(await status('web'), 'no condition');
  await pool('blue', { blocks: [{ cidr: '192.0.2.0/30' }] }, 'v2alpha1');
  await is('web', '192.0.2.0 satisfied');
  assert.equal(await status('other'), 'no condition');
  await until('counted', async () => (await poolRows()).join() === 'blue false False 3');
});

test('a pool that overlaps is marked and told about; requests that fail say why', { skip }, async () => {
  await pool('green', { blocks: [{ start: '192.0.2.3', stop: '192.0.2.9' }] });
  await pool('torn', { blocks: [{ start: 'x' }, { start: '198.51.100.1' }] });
  await service('wish', {}, { 'lbipam.cilium.io/ips': '192.0.2.0' });
  await is('wish', 'already_allocated');
  await service('far', { loadBalancerIP: '10.0.0.1' });
  await is('far', 'no_pool');
  await until('marked', async () => (await poolRows()).some(each => /^green (false)? True 7$/.test(each)));
  const wanted = [
    'wish LoadBalancerAddressMissing: 192.0.2.0 belongs to service default/web',
    'far LoadBalancerAddressMissing: no CiliumLoadBalancerIPPool contains 10.0.0.1',
    'green PoolConflict: range 192.0.2.3 - 192.0.2.9 overlaps range 192.0.2.0/30 of the older pool blue: no address is given out of this pool',
    'torn InvalidPool: spec.blocks[0]: start: found "x", expected an IP address',
  ];
  await until('told', async () => {
    const found = await events();
    return wanted.every(each => found.includes(each));
  });
});

test('an address is free again when its service goes or is no load balancer any more', { skip }, async () => {
  await admin.delete(pathOf(resources.services, { namespace: 'default', name: 'web' }));
  await is('wish', '192.0.2.0 satisfied');
  await service('wish', { type: 'ClusterIP' });
  await is('wish', 'no condition');
  await service('next');
  await is('next', '192.0.2.0 satisfied');
});

test('what somebody else writes into the status is put right', { skip }, async () => {
  await admin.patch(
    pathOf(resources.services, { namespace: 'default', name: 'next', subresource: 'status' }),
    'merge',
    {
      status: { loadBalancer: { ingress: [{ ip: '10.1.1.1' }, { hostname: 'example.com' }] } },
    },
  );
  await is('next', '192.0.2.0 satisfied');
});

test('an operator that starts anew changes nothing that is right', { skip }, async () => {
  await service('shared', { ports: [{ port: 81 }] }, { 'lbipam.cilium.io/sharing-key': 'k' });
  await is('shared', '192.0.2.1 satisfied');
  const versions = async (): Promise<string[]> => {
    const list = z.object({
      items: z.array(z.object({ metadata: z.object({ name: z.string(), resourceVersion: z.string() }) })),
    });
    const { items } = await admin.get(pathOf(resources.services), list);
    return items.flatMap(({ metadata: { name, resourceVersion } }) =>
      name === 'late' ? [] : [`${name} ${resourceVersion}`],
    );
  };
  stop.abort();
  await running;
  const before = await versions();
  start();
  await service('late');
  await is('late', '192.0.2.2 satisfied');
  assert.deepEqual(await versions(), before);
  await admin.delete(pathOf(resources.services, { namespace: 'default', name: 'late' }));
});

test('with the finalizer of load balancers a service goes through the operator', { skip }, async () => {
  const again = async (options?: { readonly cleanupFinalizer: boolean }): Promise<void> => {
    stop.abort();
    await running;
    start(options);
  };
  const held = async (name: string): Promise<boolean> =>
    loadBalancerService(
      await admin.get(pathOf(resources.services, { namespace: 'default', name }), LoadBalancerServiceObject),
      [4],
    ).finalizer;
  const gone = (name: string): Promise<void> =>
    until(`${name} is gone`, () =>
      held(name).then(
        () => false,
        (error: unknown) => isNotFound(error),
      ),
    );
  await again({ cleanupFinalizer: true });
  await service('held', { ports: [{ port: 82 }] });
  await until('held by the operator', () => held('held'));
  await is('held', '192.0.2.2 satisfied');
  await until('those from before as well', () => held('shared'));
  await service('held', { type: 'ClusterIP', ports: [{ port: 82 }] });
  await until('let go', async () => !(await held('held')));
  await service('held', { ports: [{ port: 82 }] });
  await until('held again', () => held('held'));
  stop.abort();
  await running;
  await admin.delete(pathOf(resources.services, { namespace: 'default', name: 'held' }));
  assert.equal(await held('held'), true);
  start({ cleanupFinalizer: true });
  await gone('held');
  await again();
  await until('let go by default', async () => !(await held('shared')));
  await again({ cleanupFinalizer: true });
  await until('held once more', () => held('shared'));
  stop.abort();
  await running;
  const said: string[] = [];
  const cluster = { context: 'test', kubeconfig: api.kubeconfig('test'), namespace: 'kube-system' };
  await releaseServices(cluster, line => said.push(line));
  assert.equal(await held('shared'), false);
  assert.match(said.join(), /deleted without an operator again: \d+$/);
  start();
});

test('the last pool takes its addresses with it', { skip }, async () => {
  for (const name of ['blue', 'green', 'torn'])
    await admin.delete(pathOf(resources.loadBalancerIPPools, { name }));
  await is('next', 'no_pool');
  await is('shared', 'no_pool');
  assert.deepEqual(errors, []);
});
