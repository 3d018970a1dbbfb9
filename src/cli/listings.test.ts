import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { extract } from 'tar-stream';
import { Failure } from '../failure.ts';
import { endpointsText, endpointText, findEndpoint, historyText, type NodeEndpoint } from './endpoint.ts';
import { nodesText } from './node.ts';
import { findService, type ServiceRow, servicesText, serviceText } from './service.ts';
import { writeArchive } from './sysdump.ts';

const services: readonly ServiceRow[] = [
  {
    id: 1,
    service: 'default/web',
    kind: 'ClusterIP',
    frontend: '10.96.0.9:80/TCP',
    scope: 'external',
    backends: ['10.1.1.2:8080', '10.2.1.2:8080 (eu)'],
  },
  {
    id: 2,
    service: 'default/web',
    kind: 'NodePort',
    frontend: '0.0.0.0:30080/TCP',
    scope: 'internal',
    backends: [],
  },
  {
    id: 3,
    service: 'other/web',
    kind: 'ClusterIP',
    frontend: '10.96.0.10:80/TCP',
    scope: 'external',
    backends: [],
  },
  {
    id: 4,
    service: 'kube-system/dns',
    kind: 'ClusterIP',
    frontend: '10.96.0.10:53/UDP',
    scope: 'external',
    backends: [],
  },
];

const failure = (work: () => unknown): string => {
  try {
    work();
  } catch (error) {
    assert.ok(error instanceof Failure);
    return `${error.message}: ${error.hint}`;
  }
  assert.fail('it did not fail');
};

test('services', () => {
  assert.deepEqual(servicesText(services.slice(0, 2)).trimEnd().split('\n'), [
    'ID  SERVICE      TYPE       FRONTEND                    BACKENDS',
    '1   default/web  ClusterIP  10.96.0.9:80/TCP            10.1.1.2:8080',
    '                                                        10.2.1.2:8080 (eu)',
    '2   default/web  NodePort   0.0.0.0:30080/TCP (inside)  none: refused',
  ]);
  assert.deepEqual(serviceText(services.slice(0, 2)).trimEnd().split('\n'), [
    'Service default/web',
    '',
    '  10.96.0.9:80/TCP  ClusterIP, ID 1',
    '    → 10.1.1.2:8080',
    '    → 10.2.1.2:8080 (eu)',
    '',
    '  0.0.0.0:30080/TCP  NodePort, ID 2, for clients inside the cluster',
    '    → no backend: connections are refused',
  ]);
});

test('a service by its name, frontend or address; what is unclear or absent is said', () => {
  const ids = (wanted: string): number[] => findService(services, wanted, 'n1').map(each => each.id);
  assert.deepEqual(ids('default/web'), [1, 2]);
  assert.deepEqual(ids('dns'), [4]);
  assert.deepEqual(ids('2'), [1, 2]);
  assert.deepEqual(ids('10.96.0.9:80'), [1, 2]);
  assert.deepEqual(ids('10.96.0.10'), [3, 4]);
  assert.equal(
    failure(() => ids('web')),
    'several services are named web: say which: default/web, other/web',
  );
  assert.match(
    failure(() => ids('nothing')),
    /^node n1 balances no service nothing: isthmus service list shows all/,
  );
});

const endpoints: readonly NodeEndpoint[] = [
  {
    node: 'n2',
    id: 1,
    state: 'ready',
    pod: 'default/web',
    ipv4: '10.1.2.2',
    ipv6: '',
    identity: 65_800,
    labels: 'k8s:app=web;k8s:io.kubernetes.pod.namespace=default',
    mtu: 1450,
    hostPorts: [],
  },
  {
    node: 'n1',
    id: 1,
    state: 'creating',
    pod: 'default/db',
    ipv4: '10.1.1.2',
    ipv6: '',
    identity: 5,
    labels: 'init',
  },
  {
    node: 'n1',
    id: 2,
    state: 'ready',
    pod: 'other/web',
    ipv4: '10.1.1.3',
    ipv6: '',
    identity: 7,
    labels: '',
  },
];

test('endpoints', () => {
  assert.deepEqual(endpointsText(endpoints).trimEnd().split('\n'), [
    'NODE  ID  POD          IPV4      STATE     IDENTITY  LABELS',
    'n1    1   default/db   10.1.1.2  creating  5         init',
    'n1    2   other/web    10.1.1.3  ready     7',
    'n2    1   default/web  10.1.2.2  ready     65800     k8s:app=web',
  ]);
  assert.equal(findEndpoint(endpoints, '10.1.1.3').pod, 'other/web');
  assert.equal(findEndpoint(endpoints, 'default/web').node, 'n2');
  assert.equal(findEndpoint(endpoints, 'db').node, 'n1');
  assert.equal(
    failure(() => findEndpoint(endpoints, '1')),
    'several endpoints fit 1: say which: default/web on n2, default/db on n1',
  );
  assert.match(
    failure(() => findEndpoint(endpoints, 'x')),
    /^no endpoint fits x: isthmus endpoint list shows all/,
  );
  assert.match(
    endpointText(endpoints[0]!),
    /^Endpoint 1 of pod default\/web\n {2}node +n2\n[\s\S]* {2}mtu +1450\n$/,
  );
});

test('the log of an endpoint', () => {
  const events = [{ time: '2026-01-01T00:00:00.000Z', message: 'ready' }];
  assert.equal(
    historyText([{ node: 'n1', id: 4, pod: 'default/db', ipv4: '', gone: true, events }]),
    'Endpoint 4 of pod default/db on n1, gone\n  2026-01-01T00:00:00.000Z  ready\n',
  );
});

test('nodes, with whatever the agent says of them', () => {
  const rows = [
    { cluster: 'us', name: 'b', address: '172.18.1.3', path: '' },
    { cluster: 'us', name: 'a (this node)', address: '172.18.1.2', path: '' },
    { cluster: 'eu', name: 'c', address: '172.18.2.2', path: '', zone: 'z1' },
  ];
  assert.deepEqual(nodesText(rows).trimEnd().split('\n'), [
    'CLUSTER  NAME           ADDRESS     ZONE',
    'eu       c              172.18.2.2  z1',
    'us       a (this node)  172.18.1.2',
    'us       b              172.18.1.3',
  ]);
});

test('an archive has its files, is readable by its owner alone, and is not left half written', async t => {
  const folder = mkdtempSync(join(tmpdir(), 'isthmus-sysdump-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'a.tar.gz');
  const long = 'x'.repeat(3_000_000);
  const count = await writeArchive(
    file,
    'dump',
    (async function* () {
      yield { path: 'a/b.txt', text: 'hello — ü\n' };
      yield { path: 'long', text: long };
    })(),
  );
  assert.equal(count, 2);
  assert.equal(statSync(file).mode & 0o777, 0o600);
  const found = new Map<string, string>();
  const reader = extract();
  reader.end(gunzipSync(readFileSync(file)));
  for await (const entry of reader) {
    const chunks: Buffer[] = [];
    for await (const chunk of entry) chunks.push(chunk as Buffer);
    found.set(entry.header.name, Buffer.concat(chunks).toString());
  }
  assert.deepEqual([...found.keys()], ['dump/a/b.txt', 'dump/long']);
  assert.equal(found.get('dump/a/b.txt'), 'hello — ü\n');
  assert.equal(found.get('dump/long'), long);
  const broken = writeArchive(
    file,
    'dump',
    (async function* () {
      yield { path: 'a', text: 'a' };
      throw new Error('the cable is out');
    })(),
  );
  await assert.rejects(broken, /the cable is out/);
  assert.throws(() => statSync(file), /ENOENT/);
});
