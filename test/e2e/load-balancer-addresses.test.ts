/**
 * A service of type LoadBalancer gets an address out of a pool, one node answers for it on the cluster's link, and
 * when that node dies another does.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { type ClusterOfTest, eventually, isthmusOk, labName, mesh, ready, serverPod } from './mesh.ts';

const run = promisify(execFile);
const ns = 'load-balancer-addresses';
const l2 = [
  'l2announcements.leaseDuration=3s',
  'l2announcements.leaseRenewDeadline=1s',
  'l2announcements.leaseRetryPeriod=200ms',
];
let us: ClusterOfTest;
/** First three bytes of the addresses of the cluster's link. */
let link: string;

before(async () => {
  ({ us } = await mesh());
  await upgrade('l2announcements.enabled=true', ...l2);
  const address = await us.kubectl(
    'get',
    'node',
    'us-control-plane',
    '-o',
    'jsonpath={.status.addresses[0].address}',
  );
  link = address.split('.').slice(0, 3).join('.');
  await us.apply(JSON.stringify({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: ns } }));
  // The backend is on the one node that never answers for the address.
  await us.apply(serverPod('web', { node: 'us-control-plane' }), ns);
  await us.apply(
    JSON.stringify({
      apiVersion: 'cilium.io/v2alpha1',
      kind: 'CiliumL2AnnouncementPolicy',
      metadata: { name: 'workers' },
      spec: {
        loadBalancerIPs: true,
        nodeSelector: {
          matchExpressions: [{ key: 'node-role.kubernetes.io/control-plane', operator: 'DoesNotExist' }],
        },
      },
    }),
  );
  await ready(us, ns, 'web');
});
after(async () => {
  await us?.tryKubectl('delete', 'namespace', ns, '--wait=false');
  await us?.tryKubectl('delete', 'ciliumloadbalancerippools', 'blue', 'copy');
  await us?.tryKubectl('delete', 'ciliuml2announcementpolicies', 'workers');
  await upgrade('l2announcements.enabled=false', ...l2.map(each => each.replace(/=.*/, '=')));
});

/** Changes values as a user does, and waits until every agent has them. */
async function upgrade(...values: string[]): Promise<void> {
  await isthmusOk('upgrade', '--context', 'us', '--wait', ...values.flatMap(each => ['--set', each]));
}

const service = (name: string, spec: object = {}, annotations: Record<string, string> = {}): Promise<void> =>
  us.apply(
    JSON.stringify({
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name, annotations },
      spec: {
        type: 'LoadBalancer',
        selector: { app: 'web' },
        ports: [{ port: 80, targetPort: 8080 }],
        ...spec,
      },
    }),
    ns,
  );

const pool = (name: string, spec: object): Promise<void> =>
  us.apply(
    JSON.stringify({
      apiVersion: 'cilium.io/v2',
      kind: 'CiliumLoadBalancerIPPool',
      metadata: { name },
      spec,
    }),
  );

const read = (name: string, path: string): Promise<string> =>
  us.kubectl('-n', ns, 'get', 'service', name, '-o', `jsonpath=${path}`);

const addressOf = (name: string): Promise<string> =>
  eventually(
    `address of ${name}`,
    async () => (await read(name, '{.status.loadBalancer.ingress[*].ip}')) || undefined,
  );

/** What this machine gets from an address, by the cluster's link. */
async function ask(address: string, seconds = 1): Promise<string> {
  const { stdout } = await run('curl', ['-s', '-m', String(seconds), `http://${address}/hostname`]);
  return stdout;
}

const holder = (name: string): Promise<string> =>
  us.kubectl(
    ...['-n', 'kube-system', 'get', 'lease', `cilium-l2announce-${ns}-${name}`],
    ...['-o', 'jsonpath={.spec.holderIdentity}'],
  );

test('a service waits for a pool, gets its address, and this machine reaches it', async () => {
  await service('web');
  await pool('blue', { blocks: [{ start: `${link}.200`, stop: `${link}.210` }] });
  const address = await addressOf('web');
  assert.equal(address, `${link}.200`);
  await eventually('it answers', async () => (await ask(address)) === 'web');
  assert.match(await holder('web'), /^us-worker2?$/);
  const shown = await us.kubectl('get', 'ippools', 'blue');
  assert.match(shown, /CONFLICTING +IPS AVAILABLE/);
  assert.match(shown, /blue +false +False +10 /);
});

test('what cannot be had is said in the service, and in events', async () => {
  await service('taken', {}, { 'lbipam.cilium.io/ips': `${link}.200` });
  const condition = '{.status.conditions[?(@.type=="cilium.io/IPAMRequestSatisfied")].reason}';
  await eventually('the condition', async () => (await read('taken', condition)) === 'already_allocated');
  await pool('copy', { blocks: [{ cidr: `${link}.208/30` }] });
  await eventually('events', async () => {
    const text = await us.kubectl('get', 'events', '-A');
    return (
      text.includes(`${link}.200 belongs to service ${ns}/web`) &&
      text.includes(`range ${link}.208/30 overlaps range ${link}.200 - ${link}.210 of the older pool blue`)
    );
  });
  await us.kubectl('-n', ns, 'delete', 'service', 'taken');
});

test('when the node that answers dies, another answers within seconds', async t => {
  const address = await addressOf('web');
  const first = await holder('web');
  assert.equal(await ask(address), 'web');
  await isthmusOk('lab', 'fault', 'kill', `us/${first}`, '--name', labName);
  const died = performance.now();
  try {
    await eventually('it answers again', async () => (await ask(address, 0.5)) === 'web', 30);
    const took = performance.now() - died;
    t.diagnostic(`answered again ${Math.round(took)} ms after the node was dead`);
    assert.ok(took < 8000, `${took} ms`);
    assert.notEqual(await holder('web'), first);
  } finally {
    await isthmusOk('lab', 'fault', 'heal', '--name', labName);
  }
  await us.kubectl('wait', '--for=condition=Ready', '--timeout=120s', `node/${first}`);
  assert.equal(await ask(address), 'web');
});

test('a service that goes gives its address back, and nobody answers for it', async () => {
  const address = await addressOf('web');
  await us.kubectl('-n', ns, 'delete', 'service', 'web');
  await service('next', {}, { 'lbipam.cilium.io/ips': address });
  assert.equal(await addressOf('next'), address);
  await eventually('it answers', async () => (await ask(address)) === 'web');
  await us.kubectl('-n', ns, 'delete', 'service', 'next');
  await eventually('nobody answers', () =>
    ask(address).then(
      () => false,
      () => true,
    ),
  );
  await eventually('no lease is left', async () => {
    const { code } = await us.tryKubectl('-n', 'kube-system', 'get', 'lease', `cilium-l2announce-${ns}-next`);
    return code !== 0;
  });
});
