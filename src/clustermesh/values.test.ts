import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import * as z from 'zod';
import type { NodeRow } from '../api/crds/cilium-node.ts';
import type { EndpointSlice } from '../api/endpoint-slice.ts';
import type { Service } from '../api/service.ts';
import { parsePrefix } from '../datapath/address.ts';
import { BadValue } from './bad-value.ts';
import { cidrText, goCidr } from './cidr.ts';
import { formatClusterConfig, parseClusterConfig } from './cluster-config.ts';
import { exportService } from './export.ts';
import { datapathKinds, type Kind, kinds, objectPrefix } from './layout.ts';
import { parseReport } from './mirror-report.ts';
import { parseServiceExport } from './service-export.ts';
import {
  formatAddress,
  formatNode,
  type Origin,
  parseAddress,
  parseIdentity,
  parseNode,
  parseService,
} from './values.ts';

const us: Origin = { cluster: 'us', clusterId: 1, maxClusters: 255 };
const parsers = {
  nodes: parseNode,
  identities: parseIdentity,
  ip: parseAddress,
  services: parseService,
  serviceexports: parseServiceExport,
};

/** What a real Cilium 1.20.2 keeps in the etcds of two clusters ca (1) and cb (2). */
const fixtures = (cluster: string) =>
  z
    .array(z.object({ key: z.string(), value: z.string() }))
    .parse(
      JSON.parse(
        readFileSync(
          new URL(`../../test/etcd/fixtures/cilium-1.20.2-${cluster}.json`, import.meta.url),
          'utf8',
        ),
      ),
    );

test('every value a real Cilium wrote is understood', () => {
  const seen: Record<string, number> = {};
  const clusters: Record<string, number> = { ca: 1, cb: 2 };
  for (const local of Object.keys(clusters))
    for (const { key, value } of fixtures(local)) {
      for (const [cluster, clusterId] of Object.entries(clusters)) {
        const origin: Origin = { cluster, clusterId, maxClusters: 255 };
        const cached = cluster !== local;
        if (key === `cilium/cluster-config/${cluster}`) {
          assert.equal(parseClusterConfig(cluster, value, 255).id, clusterId);
          assert.equal(parseClusterConfig(cluster, value, 255).cached, cached);
          seen.config = (seen.config ?? 0) + 1;
        }
        for (const kind of kinds) {
          const prefix = objectPrefix(kind, cluster, cached);
          if (!key.startsWith(prefix)) continue;
          assert.ok(parsers[kind](key, key.slice(prefix.length), value, origin), key);
          seen[kind] = (seen[kind] ?? 0) + 1;
        }
      }
    }
  for (const name of ['config', ...datapathKinds])
    assert.ok((seen[name] ?? 0) >= 4, `${name}: ${seen[name]}`);
});

test('what is written reads back the same, and as Cilium writes it', () => {
  const value = fixtures('ca').find(each => each.key === 'cilium/state/nodes/v1/ca/ca-node1')!.value;
  const origin: Origin = { cluster: 'ca', clusterId: 1, maxClusters: 255 };
  const { name, addresses, podCidrs, region, routing } = parseNode('k', 'ca-node1', value, origin);
  assert.deepEqual([region, routing], ['', '']);
  const { Labels: labels, BootID: bootId, EncryptionKey: encryptionKey } = JSON.parse(value);
  const said = { name, addresses, podCidrs, labels, bootId, encryptionKey };
  const row: NodeRow = { ...said, annotations: {}, uid: '', healthIp: '', ingressIp: '' };
  const written: unknown = JSON.parse(formatNode(row, origin));
  assert.deepEqual({ ...Object(written), Annotations: null }, JSON.parse(value));

  const address = fixtures('ca').find(each => each.key.startsWith('cilium/state/ip/v1/default/'))!;
  const rest = address.key.slice('cilium/state/ip/v1/default/'.length);
  const { nodeIp, identity } = parseAddress(address.key, rest, address.value, origin);
  const { Key, K8sNamespace, K8sPodName, K8sServiceAccount } = JSON.parse(address.value);
  assert.equal(
    formatAddress({
      ...{ address: rest, nodeIp, identity, encryptionKey: Key },
      ...{ namespace: K8sNamespace, pod: K8sPodName, serviceAccount: K8sServiceAccount ?? '' },
    }),
    address.value,
  );
});

test('prefixes in the form of Go', () => {
  for (const text of ['10.1.2.0/24', '10.0.0.0/9', '0.0.0.0/0', 'fd00:1::/64'])
    assert.equal(cidrText(goCidr(text)), text);
  assert.equal(goCidr('10.42.7.0/24').Mask, '////AA==');
  assert.equal(cidrText('10.20.1.0/24'), '10.20.1.0/24');
  assert.equal(cidrText({ IP: '10.0.0.0', Mask: 'AP8AAA==' }), undefined);
});

test('cluster configuration', () => {
  const config = {
    id: 2,
    syncedCanaries: true,
    cached: false,
    maxConnectedClusters: 255,
    serviceExportsEnabled: false,
  };
  assert.equal(
    formatClusterConfig(config),
    '{"id":2,"capabilities":{"syncedCanaries":true,"maxConnectedClusters":255,"serviceExportsEnabled":false}}',
  );
  assert.deepEqual(parseClusterConfig('eu', formatClusterConfig(config), 255), config);
  assert.throws(() => parseClusterConfig('eu', '{"id":0,"capabilities":{}}', 255), {
    message: 'cilium/cluster-config/eu: id: found 0, expected a cluster ID from 1 to 255',
  });
  assert.throws(() => parseClusterConfig('eu', formatClusterConfig(config), 511), /expected 511/);
});

const bad: [Kind, string, string, RegExp][] = [
  ['nodes', 'a', 'no json', /^Error|found "no json", expected a JSON object/],
  ['nodes', 'a', '{"Name":"a","Cluster":"eu","ClusterID":1}', /k: Cluster: found "eu", expected "us"/],
  ['nodes', 'a', '{"Name":"b","Cluster":"us","ClusterID":1}', /Name: found "b", expected "a"/],
  ['nodes', 'a', '{"Name":"a","Cluster":"us","ClusterID":2}', /ClusterID: found 2, expected 1/],
  [
    'nodes',
    'a',
    '{"Name":"a","Cluster":"us","ClusterID":1,"IPAddresses":[{"Type":"InternalIP","IP":"1.2.3"}]}',
    /IPAddresses \(InternalIP\): found "1.2.3", expected an IP address/,
  ],
  ['services', 'n/s', '{"cluster":"us","namespace":"n","name":"x","clusterID":1}', /namespace\/name: found/],
  [
    'services',
    'n/s',
    '{"cluster":"us","namespace":"n","name":"s","clusterID":1,"shared":true,"backends":{"x":{}}}',
    /backends: found "x", expected an IP address/,
  ],
  [
    'services',
    'n/s',
    '{"cluster":"us","namespace":"n","name":"s","clusterID":1,"backends":{"10.0.0.1":{"p":{"Protocol":"ICMP","Port":1}}}}',
    /backends.10.0.0.1.p.Protocol: found "ICMP", expected TCP, UDP or SCTP/,
  ],
  ['identities', '131073', 'k8s:io.cilium.k8s.policy.cluster=us;', /number: found 131073, expected an ident/],
  ['identities', '6', 'k8s:io.cilium.k8s.policy.cluster=us;', /expected an identity of cluster ID 1/],
  ['identities', '65793', 'k8s:app=x;', /io.cilium.k8s.policy.cluster: found nothing, expected "us"/],
  ['identities', '65793', '', /expected labels/],
  [
    'ip',
    '10.0.0.1',
    '{"IP":"10.0.0.2","ID":65793}',
    /IP and Mask: found "10.0.0.2\/?.*", expected "10.0.0.1"/,
  ],
  [
    'ip',
    '10.0.0.1',
    '{"IP":"10.0.0.1","ID":131073}',
    /ID: found 131073, expected an identity of cluster ID 1/,
  ],
  ['ip', '10.0.0.1', '{"IP":"10.0.0.1","ID":65793,"HostIP":"node"}', /HostIP: found "node"/],
];

for (const [kind, rest, value, message] of bad)
  test(`refused: ${kind} ${rest} ${value}`, () => {
    assert.throws(
      () => parsers[kind]('k', rest, value, us),
      (error: Error) => message.test(error.message),
    );
  });

test("another cluster's host is a remote node", () => {
  const row = parseAddress('k', '10.0.0.1', '{"IP":"10.0.0.1","Mask":null,"ID":1}', us);
  assert.equal(row.identity, 6);
  assert.equal(row.prefix, '10.0.0.1/32');
});

const service: Service = {
  namespace: 'shop',
  name: 'cart',
  uid: 'u',
  created: '',
  labels: { team: 'basket' },
  annotations: { 'service.cilium.io/global': 'true' },
  type: 'ClusterIP',
  clusterIPs: ['10.96.40.12'],
  headless: false,
  externalIPs: [],
  loadBalancerIPs: [],
  loadBalancerClass: '',
  selector: { app: 'cart' },
  ports: [{ name: 'http', protocol: 'TCP', port: 80, nodePort: 0 }],
  affinityTimeout: 0,
  externalTrafficPolicy: 'Cluster',
  internalTrafficPolicy: 'Cluster',
  ipFamilies: [],
  trafficDistribution: '',
  healthCheckNodePort: 0,
  publishNotReadyAddresses: false,
  loadBalancerSourceRanges: [],
};

function slice(endpoints: [address: string, state: 'ready' | 'draining' | 'down'][]): EndpointSlice {
  return {
    namespace: 'shop',
    name: 'cart-1',
    service: 'shop/cart',
    addressType: 'IPv4',
    ports: [{ name: 'http', protocol: 'TCP', port: 8080 }],
    endpoints: endpoints.map(([address, state]) => ({
      address,
      ready: state === 'ready',
      serving: state !== 'down',
      terminating: state === 'draining',
      node: 'n',
      hostname: '',
      zone: 'eu-a',
      forZones: ['eu-a'],

      forNodes: [],
    })),
  };
}

test('a global service is exported with its usable backends', () => {
  const backendsOf = (row: Service, slices: EndpointSlice[]) => {
    const [exported] = exportService(row, slices, us);
    if (!exported) return undefined;
    const parsed = parseService(exported.key, 'shop/cart', exported.value, us);
    return (parsed?.backends ?? []).flatMap(part => Object.keys(part));
  };
  const [row] = exportService(service, [slice([['10.1.0.9', 'ready']])], us);
  assert.equal(row?.key, 'cilium/state/services/v1/us/shop/cart');
  assert.equal(
    row?.value,
    '{"cluster":"us","namespace":"shop","name":"cart","frontends":{"10.96.40.12":{"http":{"Protocol":"TCP","Port":80}}},' +
      '"backends":{"10.1.0.9":{"http":{"Protocol":"TCP","Port":8080}}},' +
      '"zones":{"10.1.0.9":{"zone":"eu-a","forZones":[{"name":"eu-a"}]}},' +
      '"labels":{"team":"basket"},"selector":{"app":"cart"},"includeExternal":true,"shared":true,"clusterID":1}',
  );
  assert.deepEqual(
    backendsOf(service, [
      slice([
        ['10.1.0.1', 'down'],
        ['10.1.0.2', 'ready'],
        ['10.1.0.3', 'draining'],
      ]),
    ]),
    ['10.1.0.2'],
  );
  assert.deepEqual(backendsOf(service, [slice([['10.1.0.3', 'draining']])]), ['10.1.0.3']);
  const others = slice([['10.1.0.4', 'ready']]);
  const dead = slice([
    ['10.1.0.2', 'ready'],
    ['10.1.0.3', 'draining'],
  ]);
  const moved = { ...others, endpoints: others.endpoints.map(each => ({ ...each, node: 'alive' })) };
  const [without] = exportService(service, [dead, moved], us, node => node === 'n');
  assert.match(without!.value, /"backends":\{"10\.1\.0\.4":\{[^}]*\}\}/, 'those of a dead node are left out');
  assert.deepEqual(backendsOf(service, []), [], 'the key stays when nothing is ready');
  const annotated = (annotations: Record<string, string>) => ({ ...service, annotations });
  assert.equal(backendsOf(annotated({}), []), undefined);
  assert.equal(
    backendsOf(annotated({ 'io.cilium/global-service': 'true', 'io.cilium/shared-service': 'false' }), []),
    undefined,
  );
  const headless: Service = { ...service, clusterIPs: [], headless: true };
  assert.match(exportService(headless, [], us)[0]!.value, /"frontends":\{\}/);
});

test('backends that terminate or are not ready are told apart by ours, and Cilium reads only what it may send to', () => {
  const exported = (...endpoints: Parameters<typeof slice>[0]) => {
    const [row] = exportService(service, [slice(endpoints)], us);
    const { backends, terminating = [], notReady = [] } = parseService('key', 'shop/cart', row!.value, us)!;
    return [backends, terminating, notReady].map(each => each.flatMap(part => Object.keys(part)).join(' '));
  };
  const draining = ['10.1.0.3', 'draining'] as const;
  assert.deepEqual(exported(['10.1.0.1', 'down'], ['10.1.0.2', 'ready'], [...draining]), [
    '10.1.0.2',
    '10.1.0.3',
    '10.1.0.1',
  ]);
  assert.deepEqual(exported([...draining]), ['10.1.0.3', '10.1.0.3', '']);
  const [row] = exportService(service, [slice([[...draining]]), slice([['10.1.0.3', 'ready']])], us);
  assert.doesNotMatch(row!.value, /terminating|notReady/, 'nothing to add: the value is as Cilium writes it');
  const gone = slice([[...draining]]);
  const ended = { ...gone, endpoints: gone.endpoints.map(each => ({ ...each, serving: false })) };
  assert.doesNotMatch(
    exportService(service, [ended], us)[0]!.value,
    /10\.1\.0\.3/,
    'who serves no more is gone',
  );
  assert.throws(
    () =>
      parseService(
        'key',
        'shop/cart',
        row!.value.replace('"backends"', '"terminating":{"x":{}},"backends"'),
        us,
      ),
    /terminating/,
  );
});

test('an IPv4 address in IPv6 clothes, one with a zone, and other spellings of one address', () => {
  const claim = (ip: string) =>
    parseAddress('key', ip, JSON.stringify({ IP: ip, HostIP: '192.0.2.1', ID: 65_800 }), us).prefix;
  assert.equal(claim('fd00::A'), 'fd00::a/128');
  assert.equal(claim('FD00:0:0::0:a'), 'fd00::a/128');
  for (const ip of [
    '::ffff:10.1.0.9',
    '::FFFF:a01:9',
    '0:0:0:0:0:ffff:10.1.0.9',
    'fe80::1%eth0',
    '010.1.0.9',
    '10.1.0',
  ])
    assert.throws(() => claim(ip), { name: 'BadValue' }, ip);
  const service = (backend: string) =>
    parseService(
      'key',
      'ns/web',
      JSON.stringify({
        cluster: 'us',
        namespace: 'ns',
        name: 'web',
        clusterID: 1,
        shared: true,
        backends: { [backend]: {} },
      }),
      us,
    );
  assert.throws(() => service('::ffff:10.1.0.9'), { name: 'BadValue' });
});

const originOf = (cluster: string): Origin => ({
  cluster,
  clusterId: cluster === 'ca' ? 1 : 2,
  maxClusters: 255,
});

/** Breaks texts in ways that are random, and the same for a seed. */
function breakages(seed: number) {
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) & 0x7fff_ffff;
    return (seed >> 4) % below;
  };
  const pick = <T>(of: readonly T[]): T => of[random(of.length)]!;
  const odd: unknown[] = [
    null,
    true,
    -1,
    0,
    2 ** 53,
    1e308,
    0.5,
    '',
    'x',
    '0',
    '::ffff:10.1.0.9',
    '10.1.0.9',
    'fe80::1%lo',
    '10.0.0.0/8',
    '0.0.0.0/0',
    '////',
    '\u0000',
    '__proto__',
    [],
    [null],
    [[]],
    {},
    { IP: null },
    { __proto__: null, constructor: 1 },
    'a'.repeat(10_000),
  ];
  /** The same value with one thing in it replaced, removed, doubled or renamed. */
  const mutate = (value: unknown): unknown => {
    if (random(4) === 0 || typeof value !== 'object' || value === null) return pick(odd);
    if (Array.isArray(value)) {
      const at = random(value.length + 1);
      return random(3)
        ? value.with(Math.min(at, value.length - 1), mutate(value[at]))
        : [...value, pick(odd)];
    }
    const entries = Object.entries(value);
    if (entries.length === 0) return { [String(pick(odd))]: pick(odd) };
    const at = random(entries.length);
    const [name, inner] = entries[at]!;
    if (random(6) === 0) return Object.fromEntries(entries.toSpliced(at, 1));
    const renamed = random(6) === 0 ? String(pick(odd)) : name;
    return Object.fromEntries(entries.with(at, [renamed, mutate(inner)]));
  };
  const broken = (value: string): string => {
    if (random(3) === 0) {
      const bytes = Buffer.from(value);
      for (let times = 1 + random(3); times > 0; times--) bytes[random(bytes.length)] = random(256);
      return bytes.subarray(0, random(4) ? bytes.length : random(bytes.length)).toString();
    }
    try {
      return JSON.stringify(mutate(JSON.parse(value))) ?? '';
    } catch {
      return value.replace(pick(['=', ';', ':', 'k8s', 'ca', 'cb']), pick(['', '=', ';', ':', 'x', 'k8s:']));
    }
  };
  return { pick, broken };
}

/** What a cluster writes that the fixtures have nothing of: what is ours alone, MCS-API, the other family, prefixes. */
const furtherSamples: readonly { readonly key: string; readonly value: unknown }[] = [
  {
    key: 'cilium/state/serviceexports/v1/ca/bank/ledger',
    value: {
      cluster: 'ca',
      name: 'ledger',
      namespace: 'bank',
      labels: { team: 'a' },
      annotations: { 'service.cilium.io/affinity': 'local' },
      exportCreationTimestamp: '2026-02-03T04:05:06Z',
      ports: [{ name: 'grpc', protocol: 'TCP', appProtocol: 'h2c', port: 9000 }],
      type: 'ClusterSetIP',
      sessionAffinity: 'ClientIP',
      sessionAffinityConfig: { clientIP: { timeoutSeconds: 60 } },
      ipFamilies: ['IPv4', 'IPv6'],
      internalTrafficPolicy: 'Cluster',
      trafficDistribution: 'PreferClose',
    },
  },
  {
    key: 'cilium/state/services/v1/ca/shop/cart',
    value: {
      cluster: 'ca',
      namespace: 'shop',
      name: 'cart',
      frontends: { '10.96.0.9': { http: { Protocol: 'TCP', Port: 80 } } },
      backends: { '10.1.0.7': { http: { Protocol: 'TCP', Port: 80 } } },
      terminating: { '10.1.0.8': { http: { Protocol: 'TCP', Port: 80 } } },
      notReady: { 'fd00::9': { http: { Protocol: 'UDP', Port: 53 } } },
      hostnames: { '10.1.0.7': 'cart-0' },
      zones: { '10.1.0.7': { zone: 'a', forZones: [{ name: 'a' }] } },
      shared: true,
      clusterID: 1,
    },
  },
  {
    key: 'cilium/state/nodes/v1/ca/six',
    value: {
      Name: 'six',
      Cluster: 'ca',
      IPAddresses: [{ Type: 'InternalIP', IP: 'fd01::7' }],
      IPv4AllocCIDR: '10.7.0.0/24',
      IPv6AllocCIDR: { IP: 'fd00:7::', Mask: '//////////8AAAAAAAAAAA==' },
      IPv6SecondaryAllocCIDRs: [{ IP: 'fd00:8::', Mask: '//////////8AAAAAAAAAAA==' }],
      IPv6HealthIP: 'fd00:7::2',
      ClusterID: 1,
    },
  },
  {
    key: 'cilium/state/ip/v1/default/10.1.8.0/24',
    value: { IP: '10.1.8.0', Mask: '////AA==', HostIP: '192.0.2.7', ID: 65_800, Key: 0 },
  },
  {
    key: 'cilium/state/ip/v1/default/fd00:7::9',
    value: { IP: 'fd00:7::9', Mask: null, HostIP: 'fd01::7', ID: 65_800, K8sPodName: 'p' },
  },
];

test('broken values of every kind are refused by name, and nothing of them is taken', t => {
  const further = furtherSamples.map(({ key, value }) => ({ key, value: JSON.stringify(value) }));
  const samples = ['ca', 'cb'].flatMap(cluster =>
    [...fixtures(cluster), ...(cluster === 'ca' ? further : [])].flatMap(({ key, value }) =>
      kinds
        .filter(kind => key.startsWith(objectPrefix(kind, cluster)))
        .map(kind => ({ kind, key, value, prefix: objectPrefix(kind, cluster), cluster })),
    ),
  );
  for (const { kind, key, prefix, value, cluster } of samples)
    assert.ok(parsers[kind](key, key.slice(prefix.length), value, originOf(cluster)), key);
  assert.deepEqual(new Set(samples.map(each => each.kind)), new Set(kinds));
  const { pick, broken } = breakages(20_261_121);
  let refused = 0;
  const rounds = 20_000;
  for (let round = 0; round < rounds; round++) {
    const { kind, key, value, prefix, cluster } = pick(samples);
    const origin = originOf(cluster);
    const text = broken(value);
    try {
      const row = parsers[kind](key, key.slice(prefix.length), text, origin);
      if (!row) continue;
      assert.equal(row.cluster, cluster);
      if ('clusterId' in row) assert.equal(row.clusterId, origin.clusterId);
      // Whatever is let in can be written to the maps.
      if ('nodeIp' in row) for (const each of [row.prefix, row.nodeIp || '::']) parsePrefix(each);
      if ('podCidrs' in row) for (const each of row.podCidrs) parsePrefix(each);
      if ('addresses' in row)
        for (const each of row.addresses) if (each.type.endsWith('IP')) parsePrefix(each.ip);
      if ('backends' in row)
        for (const parts of [row.backends, row.terminating, row.notReady])
          for (const each of (parts ?? []).flatMap(part => Object.keys(part))) parsePrefix(each);
      if ('identity' in row && kind === 'identities') assert.equal(row.identity >> 16, origin.clusterId);
    } catch (error) {
      assert.ok(
        error instanceof BadValue,
        `${key}: ${text.slice(0, 500)}: ${error instanceof Error ? error.stack : error}`,
      );
      assert.ok(error.message.length < 1000, error.message.slice(0, 1000));
      refused++;
    }
  }
  t.diagnostic(`${refused} of ${rounds} were refused`);
  assert.ok(refused > rounds / 4);
});

test('a broken cluster configuration, and a broken report of a mirror, are refused by name', t => {
  const config = formatClusterConfig({
    id: 2,
    syncedCanaries: true,
    cached: true,
    maxConnectedClusters: 255,
    serviceExportsEnabled: true,
    endpointSlicesExportMode: 'services-and-endpointslices',
    reported: true,
    node: 'eu-worker',
  });
  const report = JSON.stringify({
    mirror: 'clustermesh-apiserver-0',
    clusterId: 2,
    state: 'ready',
    status: 'ready',
    answers: true,
    blind: false,
    heartbeatAge: 1.5,
    disconnectedAge: 0,
    lastOutage: { seconds: 3, age: 4 },
  });
  const { pick, broken } = breakages(20_261_122);
  let refused = 0;
  const rounds = 5_000;
  for (let round = 0; round < rounds; round++) {
    const isConfig = pick([true, false]);
    const text = broken(isConfig ? config : report);
    try {
      if (isConfig) {
        const { id } = parseClusterConfig('eu', text, 255);
        assert.ok(Number.isInteger(id) && id >= 1 && id <= 255, text);
      } else {
        const { heartbeatAge, disconnectedAge } = parseReport('eu', text);
        for (const age of [heartbeatAge, disconnectedAge])
          assert.ok(age === undefined || Number.isFinite(age), text);
      }
    } catch (error) {
      assert.ok(error instanceof BadValue, `${text.slice(0, 500)}: ${error}`);
      assert.match(error.message, /^cilium\/(cluster-config\/eu|cache\/isthmus\/v1\/eu\/report): /);
      assert.ok(error.message.length < 1000, error.message.slice(0, 1000));
      refused++;
    }
  }
  t.diagnostic(`${refused} of ${rounds} were refused`);
  assert.ok(refused > rounds / 4);
});
