import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { L2Candidate } from '../../src/agent/l2-addresses.ts';
import { L2Leases, l2LeaseRow, l2LeasesTable, leaseName } from '../../src/agent/l2-leases.ts';
import type { KubeClient } from '../../src/kube/client.ts';
import { Lease } from '../../src/kube/objects.ts';
import { reflect } from '../../src/kube/reflect.ts';
import { pathOf, resources } from '../../src/kube/resource.ts';
import { isNotFound } from '../../src/kube/status.ts';
import { Table } from '../../src/table/table.ts';
import { plain, render } from '../chart/rendering.ts';
import { LocalApiServer, missingBinaries, until } from './local-api-server.ts';

const skip = missingBinaries() ?? false;
const namespace = 'kube-system';
let api: LocalApiServer;
let admin: KubeClient;
const nodes: NodeOfTest[] = [];

before(async () => {
  if (skip) return;
  api = await LocalApiServer.start();
  admin = api.client('admin');
  for (const object of await render([...plain, 'l2announcements.enabled=true']))
    if (/^(Cluster)?Role(Binding)?$/.test(object.kind)) {
      const { name, namespace } = object.metadata;
      const scope = namespace ? `/namespaces/${namespace}` : '';
      const path = `/apis/rbac.authorization.k8s.io/v1${scope}/${object.kind.toLowerCase()}s/${name}`;
      await admin.apply(path, object);
    }
});
after(async () => {
  for (const each of nodes) each.die();
  await api?.[Symbol.asyncDispose]();
});

/** Milliseconds of a lease: a busy machine's API server may take a second to answer, and a holder must not lose it by that. */
const duration = 3000;

interface NodeOfTest {
  readonly candidates: Table<L2Candidate>;
  readonly services: Set<string>;
  holds(service: string): boolean;
  readonly errors: string[];
  /** Without a word to anybody, as a machine whose power is cut. */
  die(): void;
}

/** An agent's part in the leases, with the rights the chart gives an agent. */
function nodeOfTest(name: string, ...services: string[]): NodeOfTest {
  const stop = new AbortController();
  const client = api.client('agent', 'isthmus-agent');
  const leases = l2LeasesTable();
  const candidates = new Table<L2Candidate>({ name: 'candidates', keyOf: row => row.service });
  const present = new Set(services);
  const errors: string[] = [];
  reflect(client, {
    path: pathOf(resources.leases, { namespace }),
    schema: Lease,
    table: leases,
    toRow: l2LeaseRow,
    signal: stop.signal,
    onError: error => errors.push(error.message),
  });
  for (const service of services) candidates.upsert({ service });
  candidates.markSynced();
  const { held } = new L2Leases({
    client,
    namespace,
    node: name,
    candidates,
    leases,
    exists: service => present.has(service),
    duration,
    renew: 300,
    retry: 50,
    signal: stop.signal,
    onError: (service, error) => errors.push(`${service}: ${error.message}`),
  });
  const node: NodeOfTest = {
    candidates,
    services: present,
    errors,
    holds: service => held.has(service),
    die: () => stop.abort(),
  };
  nodes.push(node);
  return node;
}

const holders = (service: string, ...of: NodeOfTest[]): number =>
  of.filter(each => each.holds(service)).length;

const leaseOf = (service: string): Promise<Lease> =>
  admin.get(pathOf(resources.leases, { namespace, name: leaseName(service) }), Lease);

test('one node holds a service’s lease, and another takes it when that node is silent', {
  skip,
}, async () => {
  const [a, b] = [nodeOfTest('a', 'ns/web'), nodeOfTest('b', 'ns/web')];
  await until('one holds it', () => holders('ns/web', a, b) === 1);
  const [first, second] = a.holds('ns/web') ? [a, b] : [b, a];
  const [firstName, secondName] = first === a ? ['a', 'b'] : ['b', 'a'];
  const lease = await leaseOf('ns/web');
  assert.equal(lease.metadata.name, 'cilium-l2announce-ns-web');
  assert.equal(lease.spec?.holderIdentity, firstName);
  // It is renewed: when it would have expired it is still the same holder's.
  const version = lease.metadata.resourceVersion;
  const from = performance.now();
  await until('renewed', async () => (await leaseOf('ns/web')).metadata.resourceVersion !== version);
  await until('time passes', () => {
    assert.equal(holders('ns/web', a, b), 1);
    return performance.now() - from > 1.3 * duration;
  });
  assert.ok(first.holds('ns/web'));
  first.die();
  const died = performance.now();
  await until('the other has it', () => second.holds('ns/web'));
  const took = performance.now() - died;
  assert.ok(took > 0.6 * duration && took < 2.5 * duration, `${took} ms`);
  const taken = await leaseOf('ns/web');
  assert.equal(taken.spec?.holderIdentity, secondName);
  assert.equal(taken.spec?.leaseTransitions, 1);
  // The dead one comes back and finds the lease another's.
  const again = nodeOfTest(firstName, 'ns/web');
  await until('time passes', () => {
    assert.ok(!again.holds('ns/web'));
    return performance.now() - died > took + 1.3 * duration;
  });
  assert.ok(second.holds('ns/web'));
  for (const each of [again, second]) each.die();
});

test('a restarted agent goes on with what it held', { skip }, async () => {
  const a = nodeOfTest('a', 'ns/kept');
  await until('held', () => a.holds('ns/kept'));
  a.die();
  const [again, other] = [nodeOfTest('a', 'ns/kept'), nodeOfTest('b', 'ns/kept')];
  await until('held again', () => again.holds('ns/kept'));
  assert.equal((await leaseOf('ns/kept')).spec?.leaseTransitions, 0);
  assert.ok(!other.holds('ns/kept'));
  for (const each of [again, other]) each.die();
});

test('a node that competes no more gives the lease back; with the service it goes', { skip }, async () => {
  const a = nodeOfTest('a', 'ns/moving');
  await until('held', () => a.holds('ns/moving'));
  const b = nodeOfTest('b', 'ns/moving');
  const from = performance.now();
  a.candidates.delete('ns/moving');
  assert.ok(!a.holds('ns/moving'));
  await until('the other has it', () => b.holds('ns/moving'));
  assert.ok(performance.now() - from < 0.9 * duration, 'before it would have expired');
  b.services.delete('ns/moving');
  b.candidates.delete('ns/moving');
  await until('the lease is gone', () =>
    leaseOf('ns/moving').then(
      () => false,
      error => isNotFound(error),
    ),
  );
  for (const each of [a, b]) each.die();
});

test('a holder that cannot renew stops answering before another begins', { skip }, async () => {
  const a = nodeOfTest('a', 'ns/cut');
  await until('held', () => a.holds('ns/cut'));
  // Somebody else wrote the lease: what this node has is stale.
  const { resourceVersion } = (await leaseOf('ns/cut')).metadata;
  await admin.patch(pathOf(resources.leases, { namespace, name: leaseName('ns/cut') }), 'merge', {
    spec: { holderIdentity: 'z', renewTime: new Date().toISOString().replace('Z', '000Z') },
  });
  await until('given up', () => !a.holds('ns/cut'));
  assert.notEqual((await leaseOf('ns/cut')).metadata.resourceVersion, resourceVersion);
  await until('taken back when z is silent', () => a.holds('ns/cut'));
  await api.stop();
  await until('given up without an API server', () => !a.holds('ns/cut'));
  assert.match(a.errors.join(), /ns\/cut/);
  a.die();
});
