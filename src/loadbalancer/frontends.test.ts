import assert from 'node:assert/strict';
import { test } from 'node:test';
import { endpointSliceSchema, toEndpointSlice } from '../api/endpoint-slice.ts';
import { serviceSchema, toService } from '../api/service.ts';
import { type Frontend, shareText } from './frontend.ts';
import { type Forwarding, frontendsOf } from './frontends.ts';
import type { RemotePart, RemoteService } from './remote-service.ts';
import { allReachable } from './unreachable.ts';

type Fields = Record<string, unknown>;
const service = (spec: Fields, annotations: Fields = {}, labels: Fields = {}, status: Fields = {}) =>
  toService(
    serviceSchema.parse({
      metadata: { namespace: 'shop', name: 'cart', annotations, labels },
      spec: { clusterIP: '10.96.0.9', ports: [{ name: 'http', port: 80 }], ...spec },
      status,
    }),
  );
const slice = (endpoints: Fields[], ports: Fields[] = [{ name: 'http', port: 8080 }], fields: Fields = {}) =>
  toEndpointSlice(
    endpointSliceSchema.parse({
      metadata: { namespace: 'shop', name: 'cart-1', labels: { 'kubernetes.io/service-name': 'cart' } },
      addressType: 'IPv4',
      endpoints,
      ports,
      ...fields,
    }),
  );
const ready = (address: string, nodeName = 'n1') => ({ addresses: [address], nodeName });
const terminating = (address: string, serving = true) => ({
  addresses: [address],
  nodeName: 'n1',
  conditions: { ready: false, serving, terminating: true },
});
const eu = (backends: RemotePart): RemoteService => ({
  cluster: 'eu',
  clusterId: 2,
  namespace: 'shop',
  name: 'cart',
  backends: [backends],
});
const http = { http: { protocol: 'TCP', port: 9090 } } as const;
const global = { 'service.cilium.io/global': 'true' };
const mesh = {
  cluster: 'us',
  regionOf: (of: string) => (of === 'us' || of === 'west' ? 'america' : ''),
  mayServe: (address: string) => !address.startsWith('10.1.'),
};
const compute = (
  s: ReturnType<typeof service>,
  slices: ReturnType<typeof slice>[] = [],
  remotes: RemoteService[] = [],
  forwarding?: Forwarding,
) =>
  frontendsOf({
    service: s,
    slices,
    remotes,
    complete: true,
    forwarding,
    place: { node: 'n1', zone: 'a' },
    mesh,
  });
const show = (rows: readonly Frontend[]) =>
  rows.map(
    row =>
      `${row.kind} ${row.addr}:${row.port} ${row.scope}${row.local ? ' local' : ''} → ${row.backends.map(b => `${b.addr}:${b.port}`).join(' ')}`,
  );

test('a ClusterIP with the endpoints that are ready, in a stable order', () => {
  const rows = compute(service({}), [
    slice([ready('10.1.0.2'), ready('10.1.0.1'), { addresses: ['10.1.0.3'], conditions: { ready: false } }]),
  ]);
  assert.deepEqual(show(rows), ['ClusterIP 10.96.0.9:80 external → 10.1.0.1:8080 10.1.0.2:8080']);
});

test('no endpoint: the frontend is there, to refuse', () => {
  assert.deepEqual(show(compute(service({}))), ['ClusterIP 10.96.0.9:80 external → ']);
});

test('terminating endpoints serve only while none is ready (KEP-1669)', () => {
  assert.deepEqual(show(compute(service({}), [slice([terminating('10.1.0.1'), ready('10.1.0.2')])])), [
    'ClusterIP 10.96.0.9:80 external → 10.1.0.2:8080',
  ]);
  assert.deepEqual(
    show(compute(service({}), [slice([terminating('10.1.0.1'), terminating('10.1.0.2', false)])])),
    ['ClusterIP 10.96.0.9:80 external → 10.1.0.1:8080'],
  );
});

test('ports are matched by name and protocol', () => {
  const ports = [
    { name: 'dns', port: 53, protocol: 'UDP' },
    { name: 'dns-tcp', port: 53 },
  ];
  const rows = compute(service({ ports }), [
    slice(
      [ready('10.1.0.1')],
      [
        { name: 'dns', port: 5353, protocol: 'UDP' },
        { name: 'dns-tcp', port: 5354 },
      ],
    ),
  ]);
  assert.deepEqual(
    rows.map(row => [row.protocol, row.backends.map(b => b.port)]),
    [
      ['UDP', [5353]],
      ['TCP', [5354]],
    ],
  );
});

test('an endpoint in two slices at once is one backend', () => {
  const rows = compute(service({}), [slice([terminating('10.1.0.1')]), slice([ready('10.1.0.1')])]);
  assert.deepEqual(
    rows[0]?.backends.map(b => b.state),
    ['active'],
  );
});

test('NodePort, LoadBalancer and external addresses', () => {
  const rows = compute(
    service(
      {
        type: 'LoadBalancer',
        externalIPs: ['192.0.2.7'],
        ports: [{ name: 'http', port: 80, nodePort: 30080 }],
      },
      {},
      {},
      { loadBalancer: { ingress: [{ ip: '198.51.100.1' }, { ip: '198.51.100.2', ipMode: 'Proxy' }] } },
    ),
    [slice([ready('10.1.0.1')])],
  );
  assert.deepEqual(show(rows), [
    'ClusterIP 10.96.0.9:80 external → 10.1.0.1:8080',
    'ExternalIP 192.0.2.7:80 external → 10.1.0.1:8080',
    'LoadBalancer 198.51.100.1:80 external → 10.1.0.1:8080',
    'NodePort 0.0.0.0:30080 external → 10.1.0.1:8080',
  ]);
});

test('externalTrafficPolicy Local: this node only from outside, all from inside', () => {
  const rows = compute(
    service({
      type: 'NodePort',
      externalTrafficPolicy: 'Local',
      ports: [{ name: 'http', port: 80, nodePort: 30080 }],
    }),
    [slice([ready('10.1.0.1', 'n1'), ready('10.1.0.2', 'n2')])],
  );
  assert.deepEqual(show(rows), [
    'ClusterIP 10.96.0.9:80 external → 10.1.0.1:8080 10.1.0.2:8080',
    'NodePort 0.0.0.0:30080 internal → 10.1.0.1:8080 10.1.0.2:8080',
    'NodePort 0.0.0.0:30080 external local → 10.1.0.1:8080',
  ]);
});

test('internalTrafficPolicy Local leaves no way to another node or cluster', () => {
  const rows = compute(
    service({ internalTrafficPolicy: 'Local' }, global),
    [slice([ready('10.1.0.2', 'n2')])],
    [eu({ '10.2.0.1': http })],
  );
  assert.deepEqual(show(rows), ['ClusterIP 10.96.0.9:80 external local → ']);
});

test('headless, ExternalName and foreign-proxy services have no frontend', () => {
  const slices = [slice([ready('10.1.0.1')])];
  assert.deepEqual(compute(service({ clusterIP: 'None' }), slices), []);
  assert.deepEqual(compute(service({ type: 'ExternalName', clusterIP: '' }), slices), []);
  assert.deepEqual(
    compute(service({}, {}, { 'service.kubernetes.io/service-proxy-name': 'another' }), slices),
    [],
  );
});

test('global: backends of all clusters, merged per port name', () => {
  const remotes = [
    eu({ '10.2.0.1': http, '10.2.0.2': { metrics: { protocol: 'TCP', port: 9100 } }, 'fd00::1': http }),
  ];
  const slices = [slice([ready('10.1.0.1')])];
  assert.deepEqual(show(compute(service({}, global), slices, remotes)), [
    'ClusterIP 10.96.0.9:80 external → 10.1.0.1:8080 10.2.0.1:9090',
  ]);
  assert.deepEqual(show(compute(service({}), slices, remotes)), [
    'ClusterIP 10.96.0.9:80 external → 10.1.0.1:8080',
  ]);
});

test('a remote backend that terminates gets new connections only where nothing is active, whatever the affinity', () => {
  const leaving = { '10.2.0.2': http };
  const own = slice([ready('10.1.0.1')]);
  const draining: RemoteService = { ...eu(leaving), terminating: [leaving] };
  for (const affinity of ['none', 'local', 'remote']) {
    const s = service({}, { ...global, 'service.cilium.io/affinity': affinity });
    assert.deepEqual(
      show(compute(s, [own], [draining])),
      ['ClusterIP 10.96.0.9:80 external → 10.1.0.1:8080'],
      affinity,
    );
    const [alone] = compute(s, [], [draining]);
    assert.deepEqual(
      alone?.backends.map(each => `${each.addr} ${each.state}`),
      ['10.2.0.2 terminating'],
      affinity,
    );
  }
  const [west] = compute(
    service({}, global),
    [],
    [draining, { ...eu({ '10.3.0.1': http }), cluster: 'west' }],
  );
  assert.deepEqual(
    west?.backends.map(each => each.addr),
    ['10.3.0.1'],
  );
  const withdrawn: RemoteService = { ...eu({ '10.2.0.3': http }), terminating: [leaving] };
  assert.deepEqual(show(compute(service({}, global), [], [withdrawn])), [
    'ClusterIP 10.96.0.9:80 external → 10.2.0.3:9090',
  ]);
});

test('shares count what is active, and show what is not ready', () => {
  const weights = { ...global, 'service.isthmus.dev/weights': 'us=1,eu=1' };
  const remote: RemoteService = {
    ...eu({ '10.2.0.1': http }),
    terminating: [{ '10.2.0.2': http }],
    notReady: [{ '10.2.0.3': http, '10.2.0.4': { other: http.http } }],
  };
  const [row] = compute(service({}, weights), [slice([ready('10.1.0.1')])], [remote]);
  assert.deepEqual(row?.shares?.map(shareText), ['us 50 % (1 of 1 ready)', 'eu 50 % (1 of 2 ready)']);
});

test('an unnamed service port takes every remote port of its protocol', () => {
  const rows = compute(
    service({ ports: [{ port: 80 }] }, global),
    [slice([ready('10.1.0.1')], [{ port: 8080 }])],
    [
      eu({
        '10.2.0.1': { '': { protocol: 'TCP', port: 80 }, x: { protocol: 'UDP', port: 81 } },
        '10.2.0.2': http,
      }),
    ],
  );
  assert.deepEqual(show(rows), ['ClusterIP 10.96.0.9:80 external → 10.1.0.1:8080 10.2.0.1:80 10.2.0.2:9090']);
});

test('affinity local: remote only while no local one is active; a selectorless service is its remotes', () => {
  const local = { ...global, 'service.cilium.io/affinity': 'local' };
  const remotes = [eu({ '10.2.0.1': http })];
  assert.deepEqual(show(compute(service({}, local), [slice([ready('10.1.0.1')])], remotes)), [
    'ClusterIP 10.96.0.9:80 external → 10.1.0.1:8080',
  ]);
  assert.deepEqual(show(compute(service({}, local), [slice([terminating('10.1.0.1')])], remotes)), [
    'ClusterIP 10.96.0.9:80 external → 10.2.0.1:9090',
  ]);
  assert.deepEqual(show(compute(service({}, local), [], remotes)), [
    'ClusterIP 10.96.0.9:80 external → 10.2.0.1:9090',
  ]);
});

test('session affinity carries its timeout', () => {
  assert.equal(compute(service({ sessionAffinity: 'ClientIP' }))[0]?.affinityTimeout, 10_800);
});

test('loadBalancerSourceRanges: at the load balancer’s addresses only; wrong ones let nobody in', () => {
  const ranges = (loadBalancerSourceRanges: string[]) =>
    compute(
      service(
        {
          type: 'LoadBalancer',
          loadBalancerSourceRanges,
          ports: [{ name: 'http', port: 80, nodePort: 30080 }],
        },
        {},
        {},
        { loadBalancer: { ingress: [{ ip: '198.51.100.1' }] } },
      ),
    ).map(row => `${row.kind} ${row.sourceRanges?.join(',') ?? 'all'}`);
  assert.deepEqual(ranges([]), ['ClusterIP all', 'LoadBalancer all', 'NodePort all']);
  assert.deepEqual(ranges([' 10.1.2.3/8', 'fd00::/8']), [
    'ClusterIP all',
    'LoadBalancer 10.0.0.0/8,fd00::/8',
    'NodePort all',
  ]);
  assert.deepEqual(ranges(['everybody']), ['ClusterIP all', 'LoadBalancer ', 'NodePort all']);
});

test('allocateLoadBalancerNodePorts false: no NodePort', () => {
  const rows = compute(
    service({ type: 'LoadBalancer' }, {}, {}, { loadBalancer: { ingress: [{ ip: '198.51.100.1' }] } }),
  );
  assert.deepEqual(
    rows.map(row => row.kind),
    ['ClusterIP', 'LoadBalancer'],
  );
});

test('publishNotReadyAddresses: endpoints are ready in their slices while they terminate, and are used', () => {
  const published = {
    addresses: ['10.1.0.1'],
    conditions: { ready: true, serving: false, terminating: true },
  };
  assert.deepEqual(show(compute(service({ publishNotReadyAddresses: true }), [slice([published])])), [
    'ClusterIP 10.96.0.9:80 external → 10.1.0.1:8080',
  ]);
});

test('traffic policy Local falls back to this node’s terminating endpoints, not to other nodes’ (KEP-1669)', () => {
  const rows = compute(
    service({
      type: 'NodePort',
      externalTrafficPolicy: 'Local',
      ports: [{ name: 'http', port: 80, nodePort: 30080 }],
    }),
    [slice([terminating('10.1.0.1'), ready('10.1.0.2', 'n2')])],
  );
  assert.deepEqual(show(rows), [
    'ClusterIP 10.96.0.9:80 external → 10.1.0.2:8080',
    'NodePort 0.0.0.0:30080 internal → 10.1.0.2:8080',
    'NodePort 0.0.0.0:30080 external local → 10.1.0.1:8080',
  ]);
});

test('hints choose among the own cluster’s endpoints; traffic policy Local does not ask them', () => {
  const hinted = (address: string, node: string, zone: string) => ({
    ...ready(address, node),
    hints: { forZones: [{ name: zone }] },
  });
  const slices = [slice([hinted('10.1.0.1', 'n1', 'b'), hinted('10.1.0.2', 'n2', 'a')])];
  assert.deepEqual(show(compute(service({}), slices)), ['ClusterIP 10.96.0.9:80 external → 10.1.0.2:8080']);
  assert.deepEqual(show(compute(service({ internalTrafficPolicy: 'Local' }), slices)), [
    'ClusterIP 10.96.0.9:80 external local → 10.1.0.1:8080',
  ]);
  assert.deepEqual(show(compute(service({}, global), slices, [eu({ '10.2.0.1': http })])), [
    'ClusterIP 10.96.0.9:80 external → 10.1.0.2:8080 10.2.0.1:9090',
  ]);
});

test('3,000 endpoints in four slices, some of them twice', () => {
  const all = Array.from({ length: 3000 }, (_, n) => ready(`10.1.${n >> 8}.${n & 255}`));
  const rows = compute(service({}), [
    slice(all.slice(0, 1000)),
    slice(all.slice(1000, 2000)),
    slice(all.slice(2000)),
    slice(all.slice(990, 1010)),
  ]);
  assert.equal(rows[0]?.backends.length, 3000);
});

test('SCTP has no frontend', () => {
  assert.deepEqual(compute(service({ ports: [{ name: 'http', port: 80, protocol: 'SCTP' }] })), []);
});

test('annotations divide connections between clusters; terminating endpoints serve where nobody is ready', () => {
  const annotations = { ...global, 'service.isthmus.dev/weights': 'us=3,eu=1' };
  const [row] = compute(
    service({}, annotations),
    [slice([ready('10.1.0.1'), terminating('10.1.0.2')])],
    [eu({ '10.2.0.1': http, '10.2.0.2': http })],
  ) as [Frontend];
  assert.deepEqual(show([row]), [
    'ClusterIP 10.96.0.9:80 external → 10.1.0.1:8080 10.2.0.1:9090 10.2.0.2:9090',
  ]);
  assert.deepEqual(row.weights, [6, 1, 1]);
  assert.deepEqual(row.shares?.map(shareText), ['us 75 % (1 of 1 ready)', 'eu 25 % (2 of 2 ready)']);
  const [alone] = compute(service({}, annotations), [slice([terminating('10.1.0.2')])]) as [Frontend];
  assert.deepEqual(
    [show([alone]), alone.weights],
    [['ClusterIP 10.96.0.9:80 external → 10.1.0.2:8080'], undefined],
  );
});

test('min-healthy-local counts the endpoints that are not ready, and not those that are leaving', () => {
  const annotations = {
    ...global,
    'service.cilium.io/affinity': 'local',
    'service.isthmus.dev/min-healthy-local': '100%',
  };
  const unready = { addresses: ['10.1.0.3'], conditions: { ready: false } };
  const own = slice([ready('10.1.0.1'), unready, terminating('10.1.0.2')]);
  const [row] = compute(service({}, annotations), [own], [eu({ '10.2.0.1': http })]) as [Frontend];
  assert.deepEqual(row.shares?.map(shareText), ['us 50 % (1 of 2 ready)', 'eu 50 % (1 of 1 ready)']);
});

test('affinity local, nobody at home: the own region first, then all', () => {
  const annotations = { ...global, 'service.cilium.io/affinity': 'local' };
  const west = { ...eu({ '10.3.0.1': http }), cluster: 'west' };
  const far = eu({ '10.2.0.1': http });
  assert.deepEqual(show(compute(service({}, annotations), [], [far, west])), [
    'ClusterIP 10.96.0.9:80 external → 10.3.0.1:9090',
  ]);
  assert.deepEqual(show(compute(service({}, annotations), [], [far])), [
    'ClusterIP 10.96.0.9:80 external → 10.2.0.1:9090',
  ]);
});

test('another cluster’s backend that is a pod of this one is passed over', () => {
  const rows = compute(
    service({}, global),
    [slice([ready('10.1.0.1')])],
    [eu({ '10.1.0.7': http, '10.2.0.1': http })],
  );
  assert.deepEqual(show(rows), ['ClusterIP 10.96.0.9:80 external → 10.1.0.1:8080 10.2.0.1:9090']);
});

test('of several slices, one of which changed, a frontend has what it has of these slices alone', () => {
  const kept = service({});
  const now = (slices: ReturnType<typeof slice>[]) => show(compute(kept, slices));
  // Asked for each node, it looks at all endpoints.
  const model = (slices: ReturnType<typeof slice>[]) =>
    show(
      frontendsOf({
        ...{ service: service({}), slices, remotes: [], complete: true, mesh },
        place: { node: 'n1', zone: 'a' },
        unreachable: { ...allReachable, everyNode: false },
      }),
    );
  let seed = 3;
  const random = (below: number): number => {
    seed = (seed * 1103515245 + 12345) % 2147483648;
    return seed % below;
  };
  const parts = ['a', 'b', 'c'].map(name => ({ ...slice([]), name }));
  for (let round = 0; round < 300; round++) {
    const at = random(3);
    const endpoints = Array.from({ length: random(4) }, () =>
      (random(4) ? ready : terminating)(`10.1.0.${random(40)}`),
    );
    parts[at] = { ...slice(endpoints), name: parts[at]!.name };
    assert.deepEqual(now(parts), model(parts));
  }
});

const lost = (nodes: string[], clusters: string[] = [], addresses: string[] = []) => ({
  node: (name: string) => nodes.includes(name),
  everyNode: nodes.length === 0,
  cluster: (name: string) => clusters.includes(name),
  backendsOf: () => (addresses.length ? (address: string) => addresses.includes(address) : undefined),
});
const two = slice([ready('10.1.0.1', 'n1'), ready('10.1.0.2', 'n2')]);
const abroad = eu({ '10.2.0.1': http });
const unreachableCases: readonly [
  what: string,
  affinity: string,
  slices: ReturnType<typeof slice>[],
  nodes: string[],
  clusters: string[],
  backends: string,
][] = [
  ['all are there', 'none', [two], [], [], '10.1.0.1 10.1.0.2 10.2.0.1'],
  ['a dead node', 'none', [two], ['n2'], [], '10.1.0.1 10.2.0.1'],
  ['a dead cluster', 'none', [two], [], ['eu'], '10.1.0.1 10.1.0.2'],
  ['a node reaches its own pods, whatever others say', 'none', [two], ['n1', 'n2'], [], '10.1.0.1 10.2.0.1'],
  [
    'affinity local, all local ones on a dead node',
    'local',
    [slice([ready('10.1.0.2', 'n2')])],
    ['n2'],
    [],
    '10.2.0.1',
  ],
  [
    'affinity local, one local one on a dead node',
    'local',
    [slice([ready('10.1.0.3', 'n3'), ready('10.1.0.2', 'n2')])],
    ['n2'],
    [],
    '10.1.0.3',
  ],
  ['affinity remote, the cluster dead', 'remote', [two], [], ['eu'], '10.1.0.1 10.1.0.2'],
  ['everything dead: refused at once', 'none', [slice([ready('10.1.0.2', 'n2')])], ['n2'], ['eu'], ''],
  [
    'only terminating ones, one of them dead',
    'none',
    [slice([terminating('10.1.0.7')])],
    [],
    ['eu'],
    '10.1.0.7',
  ],
];
for (const [what, affinity, slices, nodes, clusters, backends] of unreachableCases)
  test(`unreachable: ${what}`, () => {
    const [row] = frontendsOf({
      service: service({}, { ...global, 'service.cilium.io/affinity': affinity }),
      slices,
      remotes: [abroad],
      complete: true,
      place: { node: 'n1', zone: 'a' },
      mesh,
      unreachable: lost(nodes, clusters),
    });
    assert.equal(row!.backends.map(each => each.addr).join(' '), backends);
  });

test('of another cluster only what is on its dead node is out of choice', () => {
  const [row] = frontendsOf({
    service: service({}, global),
    slices: [two],
    remotes: [eu({ '10.2.0.1': http, '10.2.0.2': http })],
    complete: true,
    place: { node: 'n1', zone: 'a' },
    mesh,
    unreachable: lost([], [], ['10.2.0.1']),
  });
  assert.equal(row!.backends.map(each => each.addr).join(' '), '10.1.0.1 10.1.0.2 10.2.0.2');
});

test('hints that lead to a dead node alone are not obeyed', () => {
  const hinted = (address: string, nodeName: string, zone: string) => ({
    ...ready(address, nodeName),
    hints: { forZones: [{ name: zone }] },
  });
  const [row] = frontendsOf({
    service: service({}),
    slices: [slice([hinted('10.1.0.2', 'n2', 'a'), hinted('10.1.0.3', 'n3', 'b')])],
    remotes: [],
    complete: true,
    place: { node: 'n1', zone: 'a' },
    mesh,
    unreachable: lost(['n2']),
  });
  assert.deepEqual(show([row!]), ['ClusterIP 10.96.0.9:80 external → 10.1.0.3:8080']);
});

test('weights and thresholds count what is dead as not ready', () => {
  const weighted = { ...global, 'service.isthmus.dev/weights': 'us=1,eu=3' };
  const shares = (
    annotations: Record<string, string>,
    nodes: string[],
    clusters: string[],
  ): string[] | undefined => {
    const [row] = frontendsOf({
      ...{ service: service({}, annotations), slices: [two], remotes: [abroad], complete: true, mesh },
      place: { node: 'n1', zone: 'a' },
      unreachable: lost(nodes, clusters),
    });
    return row!.shares?.map(shareText);
  };
  assert.deepEqual(shares(weighted, [], ['eu']), ['us 100 % (2 of 2 ready)']);
  const local = {
    ...global,
    'service.cilium.io/affinity': 'local',
    'service.isthmus.dev/min-healthy-local': '100%',
  };
  assert.deepEqual(shares(local, ['n2'], []), ['us 50 % (1 of 2 ready)', 'eu 50 % (1 of 1 ready)']);
});

/** With an address of each kind, at a port of each protocol. */
const everywhere = (annotations: Fields, spec: Fields = {}) =>
  service(
    {
      type: 'LoadBalancer',
      externalIPs: ['203.0.113.9'],
      ports: [
        { name: 'http', port: 80, nodePort: 30080 },
        { name: 'dns', port: 53, nodePort: 30053, protocol: 'UDP' },
      ],
      ...spec,
    },
    annotations,
    {},
    { loadBalancer: { ingress: [{ ip: '198.51.100.1' }] } },
  );

test('direct server return: for addresses outside, by the configuration or the service’s word, where packets are routed', () => {
  const direct = (mode: Forwarding['mode'], said = '', spec: Fields = {}, routed = true) => {
    const annotations = said && { 'service.cilium.io/forwarding-mode': said };
    return compute(everywhere(annotations || {}, spec), [], [], { mode, routed })
      .filter(row => row.dsr)
      .map(row => `${row.kind} ${row.protocol} ${row.scope}`);
  };
  const tcp = ['ExternalIP TCP external', 'LoadBalancer TCP external', 'NodePort TCP external'];
  const udp = tcp.map(each => each.replace('TCP', 'UDP'));
  assert.deepEqual(direct('snat'), []);
  assert.deepEqual(direct('dsr'), [...tcp, ...udp]);
  assert.deepEqual(direct('hybrid'), tcp);
  assert.deepEqual(direct('snat', 'dsr'), [...tcp, ...udp]);
  assert.deepEqual(direct('hybrid', 'dsr'), [...tcp, ...udp]);
  assert.deepEqual(direct('dsr', 'snat'), []);
  assert.deepEqual(direct('dsr', 'sometimes'), [...tcp, ...udp]);
  assert.deepEqual(direct('snat', 'dsr', {}, false), [], 'tunnel');
  assert.deepEqual(
    direct('dsr', '', { externalTrafficPolicy: 'Local' }),
    [],
    'backends are on this node only',
  );
  assert.deepEqual(
    compute(everywhere({ 'service.cilium.io/forwarding-mode': 'dsr' })).filter(row => row.dsr),
    [],
  );
});

test('a service that names one kind of address has that one alone, and its external IPs', () => {
  const kinds = (type: string) => [
    ...new Set(compute(everywhere({ 'service.cilium.io/type': type })).map(row => row.kind)),
  ];
  assert.deepEqual(kinds('ClusterIP'), ['ClusterIP', 'ExternalIP']);
  assert.deepEqual(kinds('NodePort'), ['ExternalIP', 'NodePort']);
  assert.deepEqual(kinds('LoadBalancer'), ['ExternalIP', 'LoadBalancer']);
  assert.deepEqual(kinds('Ingress'), ['ClusterIP', 'ExternalIP', 'LoadBalancer', 'NodePort']);
});

test('loadBalancerSourceRanges can be a list of who may not', () => {
  const ranges = (policy: string, loadBalancerSourceRanges: string[]) =>
    compute(everywhere({ 'service.cilium.io/src-ranges-policy': policy }, { loadBalancerSourceRanges }))
      .filter(row => row.sourceRanges)
      .map(row => `${row.kind} ${row.sourceRangesDeny ? 'not ' : ''}${row.sourceRanges}`);
  const all = (text: string) => [`LoadBalancer ${text}`, `LoadBalancer ${text}`];
  assert.deepEqual(ranges('deny', ['10.0.0.0/8']), all('not 10.0.0.0/8'));
  assert.deepEqual(ranges('allow', ['10.0.0.0/8']), all('10.0.0.0/8'));
  assert.deepEqual(ranges('deny', []), []);
});
