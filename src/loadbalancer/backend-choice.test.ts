/** Which backends a frontend may choose from, against the rules as Kubernetes' documents say them, one after another. */
import assert from 'node:assert/strict';
import { isIPv6 } from 'node:net';
import { test } from 'node:test';
import { endpointSliceSchema, toEndpointSlice } from '../api/endpoint-slice.ts';
import { serviceSchema, toService } from '../api/service.ts';
import type { Frontend } from './frontend.ts';
import { frontendsOf } from './frontends.ts';

let seed = 5;
const random = (n: number): number => {
  seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
  return (seed >> 8) % n;
};
const oneOf = <T>(...values: readonly T[]): T => values[random(values.length)]!;
const some = <T>(values: readonly T[], most: number): T[] =>
  Array.from({ length: random(most + 1) }, () => oneOf(...values));

interface Pod {
  readonly v6: boolean;
  readonly address: string;
  readonly node: string;
  readonly ready: boolean;
  readonly serving: boolean;
  readonly terminating: boolean;
  readonly zones: readonly string[];
  readonly nodes: readonly string[];
}
interface Slice {
  readonly pods: readonly Pod[];
  readonly v6: boolean;
  readonly ports: readonly { readonly name: string; readonly protocol: string; readonly port: number }[];
}
interface World {
  readonly policies: { readonly internal: string; readonly external: string };
  readonly slices: readonly Slice[];
  readonly deadNodes: readonly string[];
  /** The node whose frontends are looked at. */
  readonly here: { readonly node: string; readonly zone: string };
}

const servicePorts = [
  { name: 'web', protocol: 'TCP', port: 80, nodePort: 30_080 },
  { name: 'web-quic', protocol: 'UDP', port: 80, nodePort: 30_080 },
  { name: 'admin', protocol: 'TCP', port: 81, nodePort: 30_081 },
] as const;

function randomWorld(): World {
  const withHints = random(2) === 0;
  const pods = Array.from({ length: random(7) }, (_, n): Pod => {
    const v6 = random(3) === 0;
    const terminating = random(3) === 0;
    return {
      v6,
      address: v6 ? `fd00::${n + 1}` : `10.1.0.${n + 1}`,
      node: oneOf('n1', 'n2', 'n3'),
      // Not ready while it terminates, but for publishNotReadyAddresses.
      ready: terminating ? random(6) === 0 : random(4) > 0,
      serving: random(3) > 0,
      terminating,
      zones: withHints ? some(['a', 'b'], 2) : [],
      nodes: withHints && random(2) === 0 ? some(['n1', 'n2', 'n3'], 2) : [],
    };
  });
  const slices = [false, true].flatMap(v6 =>
    Array.from({ length: random(4) }, (): Slice => {
      const members = pods.filter(each => each.v6 === v6 && random(2) === 0);
      const ports = servicePorts
        .filter(() => random(4) > 0)
        .map(({ name, protocol }) => ({ name, protocol, port: oneOf(8080, 9090) }));
      return { v6, pods: members, ports };
    }),
  );
  return {
    policies: { internal: oneOf('Cluster', 'Local'), external: oneOf('Cluster', 'Local') },
    slices,
    deadNodes: some(['n1', 'n2', 'n3'], 2),
    here: { node: 'n1', zone: oneOf('a', 'b', '') },
  };
}

/** The backends of a frontend, as ADDRESS:PORT. */
function model(world: World, port: (typeof servicePorts)[number], v6: boolean, local: boolean): string[] {
  let found = world.slices
    .filter(slice => slice.v6 === v6)
    .flatMap(slice =>
      slice.ports
        .filter(target => target.name === port.name && target.protocol === port.protocol)
        .flatMap(target => slice.pods.map(pod => ({ pod, to: `${pod.address}:${target.port}` }))),
    );
  // A node that is dead to others is not dead to itself.
  found = found.filter(({ pod }) => pod.node === world.here.node || !world.deadNodes.includes(pod.node));
  // internalTrafficPolicy, externalTrafficPolicy: this node's.
  if (local) found = found.filter(({ pod }) => pod.node === world.here.node);
  const ready = found.filter(({ pod }) => pod.ready);
  // KEP-1669: those that terminate and serve, only where nobody is ready.
  if (ready.length === 0)
    return [...new Set(found.filter(({ pod }) => pod.terminating && pod.serving).map(({ to }) => to))].sort();
  let near = ready;
  // KEP-2433 and KEP-3015, not for policy Local.
  if (!local) {
    const ofNode = ready.filter(({ pod }) => pod.nodes.includes(world.here.node));
    const ofZone = ready.filter(({ pod }) => pod.zones.includes(world.here.zone));
    if (ready.every(({ pod }) => pod.nodes.length > 0) && ofNode.length > 0) near = ofNode;
    else if (ready.every(({ pod }) => pod.zones.length > 0) && ofZone.length > 0) near = ofZone;
  }
  return [...new Set(near.map(({ to }) => to))].sort();
}

function frontends(world: World): Frontend[] {
  const clusterIPs = ['10.96.0.9', 'fd00:96::9'];
  const service = toService(
    serviceSchema.parse({
      metadata: { namespace: 'shop', name: 'cart' },
      spec: {
        type: 'LoadBalancer',
        clusterIP: clusterIPs[0],
        clusterIPs,
        externalIPs: ['198.51.100.4'],
        internalTrafficPolicy: world.policies.internal,
        externalTrafficPolicy: world.policies.external,
        ports: servicePorts,
      },
      status: { loadBalancer: { ingress: [{ ip: '203.0.113.9' }, { ip: '2001:db8::9' }] } },
    }),
  );
  const slices = world.slices.map((slice, n) =>
    toEndpointSlice(
      endpointSliceSchema.parse({
        metadata: {
          namespace: 'shop',
          name: `cart-${n}`,
          labels: { 'kubernetes.io/service-name': 'cart' },
        },
        addressType: slice.v6 ? 'IPv6' : 'IPv4',
        ports: slice.ports,
        endpoints: slice.pods.map(({ address, node, ready, serving, terminating, zones, nodes }) => ({
          addresses: [address],
          nodeName: node,
          conditions: { ready, serving, terminating },
          hints: {
            forZones: zones.map(name => ({ name })),
            forNodes: nodes.map(name => ({ name })),
          },
        })),
      }),
    ),
  );
  return frontendsOf({
    service,
    slices,
    remotes: [],
    complete: true,
    place: world.here,
    mesh: { cluster: 'us', regionOf: () => '', mayServe: () => true },
    unreachable: {
      node: name => world.deadNodes.includes(name),
      everyNode: world.deadNodes.length === 0,
      cluster: () => false,
      backendsOf: () => undefined,
    },
  });
}

test('random services, slices and policies agree with the rules read aloud', () => {
  const sizes = new Set<number>();
  for (let round = 0; round < 300; round++) {
    const world = randomWorld();
    const rows = frontends(world);
    const names: string[] = [];
    for (const row of rows) {
      const policy = row.kind === 'ClusterIP' ? world.policies.internal : world.policies.external;
      // Clients inside get all backends at the addresses of clients outside.
      const local = policy === 'Local' && row.scope === 'external';
      const port = servicePorts.find(each => each.name === row.portName)!;
      assert.deepEqual(
        row.backends.map(each => `${each.addr}:${each.port}`).sort(),
        model(world, port, isIPv6(row.addr), local),
        `${row.kind} ${row.addr} ${row.portName} ${row.scope} in ${JSON.stringify(world)}`,
      );
      sizes.add(row.backends.length);
      names.push(`${row.kind} ${row.addr} ${row.portName} ${row.scope}`);
    }
    // 2 ClusterIPs, 2 NodePorts, 2 of the load balancer, 1 external: each port; with Local those of outside twice.
    const each = world.policies.external === 'Local' ? 12 : 7;
    assert.equal(new Set(names).size, servicePorts.length * each);
    assert.equal(names.length, servicePorts.length * each);
  }
  assert.ok(sizes.size > 4, 'cases with none, one and several backends');
});
