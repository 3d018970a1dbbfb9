import { existsSync, readdirSync, readlinkSync, statSync } from 'node:fs';
import { Failure } from '../failure.ts';
import { type IPv4Prefix, parseIPv4Prefix } from './address.ts';
import {
  addressesOf,
  type ClusterPlan,
  type LabPlan,
  loadBalancerRange,
  type NodePlan,
  namespacePrefix,
  nodeNamespace,
  subnetsOf,
} from './plan.ts';
import { run, waitFor } from './process.ts';

/** Prefixes that this machine has routes or addresses for, the default route aside. */
export async function takenPrefixes(): Promise<IPv4Prefix[]> {
  const text = await run('ip', ['-4', 'route', 'show', 'table', 'all']);
  const taken: IPv4Prefix[] = [];
  for (const line of text.split('\n')) {
    const words = line.trim().split(/\s+/);
    const destination = ['local', 'broadcast', 'unreachable', 'blackhole', 'prohibit'].includes(
      words[0] ?? '',
    )
      ? words[1]
      : words[0];
    const prefix = parseIPv4Prefix(destination ?? '');
    if (prefix !== undefined && prefix.length > 0) taken.push(prefix);
  }
  return taken;
}

/**
 * Makes the router: a namespace with a bridge for each cluster, which forwards between them, and a cable to
 * this machine, with a route for each cluster. Only this machine's end and its routes stand outside.
 */
export async function createRouter(plan: LabPlan): Promise<void> {
  const { router, clusters } = plan;
  await run('ip', ['netns', 'add', router.namespace]);
  const inside = ['link set lo up'];
  inside.push(`link add host0 type veth peer name ${router.hostDevice} netns ${process.pid}`);
  const ipv6 = router.routerAddress6 !== '';
  inside.push(`addr add ${router.routerAddress}/30 dev host0`, 'link set host0 up');
  if (ipv6) inside.push(`addr add ${router.routerAddress6}/64 dev host0 nodad`);
  for (const cluster of clusters) {
    // A fixed address, so that a router made anew is the one that nodes know.
    const mac = `02:00:ac:${hexByte(cluster.number)}:00:01`;
    inside.push(`link add ${cluster.bridge} type bridge stp_state 0 mcast_snooping 0`);
    // The bridge would answer for the gateway, too, under an address that changes when a node comes or goes.
    inside.push(`link set ${cluster.bridge} arp off`);
    // Routed by a cable to the bridge, not by the bridge itself: that one cannot send a large segment in a
    // tunnel whole, and would cut every one that goes from cluster to cluster.
    const port = `${cluster.gatewayDevice}port`;
    inside.push(`link add ${cluster.gatewayDevice} address ${mac} type veth peer name ${port}`);
    inside.push(`link set ${port} master ${cluster.bridge} up`, `link set ${cluster.bridge} up`);
    inside.push(
      `link set ${cluster.gatewayDevice} up`,
      `addr add ${cluster.gateway}/24 dev ${cluster.gatewayDevice}`,
      ...(cluster.gateway6 === ''
        ? []
        : [`addr add ${cluster.gateway6}/64 dev ${cluster.gatewayDevice} nodad`]),
      ...subnetsOf(cluster).map(subnet => {
        const ways = cluster.nodes
          .flatMap(addressesOf)
          .filter(address => address.includes(':') === subnet.includes(':'));
        return `route add ${loadBalancerRange(subnet)} ${ways.map(each => `nexthop via ${each}`).join(' ')}`;
      }),
    );
  }
  await sysctl(router.namespace, [
    `net.ipv6.conf.default.disable_ipv6=${ipv6 ? 0 : 1}`,
    ...(ipv6 ? ['net.ipv6.conf.all.forwarding=1', 'net.ipv6.conf.default.accept_dad=0'] : []),
    'net.ipv4.ip_forward=1',
    // A connection to a load balancer address stays with one node, and goes to none that does not answer.
    'net.ipv4.fib_multipath_hash_policy=1',
    'net.ipv4.fib_multipath_use_neigh=1',
    'net.ipv4.conf.all.rp_filter=0',
    'net.ipv4.conf.default.rp_filter=0',
    'net.ipv4.conf.all.send_redirects=0',
    'net.ipv4.conf.default.send_redirects=0',
  ]);
  await ipBatch(inside, router.namespace);
  const outside = [
    `link set ${router.hostDevice} up alias isthmus-lab`,
    `addr add ${router.hostAddress}/30 dev ${router.hostDevice}`,
    ...(ipv6 ? [`addr add ${router.hostAddress6}/64 dev ${router.hostDevice} nodad`] : []),
    ...clusters.flatMap(cluster =>
      subnetsOf(cluster).map(subnet =>
        subnet.includes(':')
          ? `route add ${subnet} via ${router.routerAddress6} dev ${router.hostDevice} src ${router.hostAddress6}`
          : `route add ${subnet} via ${router.routerAddress} dev ${router.hostDevice} src ${router.hostAddress}`,
      ),
    ),
  ];
  await ipBatch(outside);
  await run('sysctl', ['-qw', `net.ipv4.conf.${router.hostDevice}.rp_filter=0`]);
}

/**
 * Builds the network of nodes that are about to boot: a cable from the router and the address on it, in a
 * namespace with a name. The name goes (releaseNetwork) when the node holds the namespace itself, so that
 * the network ends with the node.
 */
export async function createNodeNetworks(
  plan: LabPlan,
  nodes: readonly { readonly cluster: ClusterPlan; readonly node: NodePlan }[],
): Promise<void> {
  await ipBatch(nodes.map(({ node }) => `netns add ${nodeNamespace(plan, node.name)}`));
  await ipBatch(
    nodes.flatMap(({ cluster, node }) => [
      `link add ${node.port} type veth peer name eth0 netns ${nodeNamespace(plan, node.name)}`,
      `link set ${node.port} alias ${node.name}`,
      `link set ${node.port} master ${cluster.bridge} up`,
    ]),
    plan.router.namespace,
  );
  await Promise.all(
    nodes.map(async ({ cluster, node }) => {
      const namespace = nodeNamespace(plan, node.name);
      await sysctl(namespace, [
        'net.ipv4.ip_forward=1',
        'net.ipv6.conf.default.accept_dad=0',
        'net.ipv4.conf.all.rp_filter=0',
        'net.ipv4.conf.default.rp_filter=0',
        'net.ipv4.conf.eth0.rp_filter=0',
      ]);
      await ipBatch(
        [
          'link set lo up',
          ...addressesOf(node).map(address =>
            address.includes(':')
              ? `addr add ${address}/64 dev eth0 nodad`
              : `addr add ${address}/24 dev eth0`,
          ),
          'link set eth0 up',
          ...(cluster.ipFamily === 'ipv6' ? [] : [`route add default via ${cluster.gateway}`]),
          ...(node.address6 === '' ? [] : [`route add default via ${cluster.gateway6}`]),
        ],
        namespace,
      );
    }),
  );
}

/** Takes the name from a node's network once process `pid` is in it. */
export async function releaseNetwork(plan: LabPlan, node: NodePlan, pid: number): Promise<void> {
  const namespace = nodeNamespace(plan, node.name);
  const inode = statSync(`/run/netns/${namespace}`).ino;
  await waitFor(() => (networkOf(pid) === inode ? true : undefined), {
    timeout: 10_000,
    interval: 5,
    late: () => new Failure(`node ${node.name} does not start: its first process is not in its network`),
  });
  await run('ip', ['netns', 'del', namespace]);
}

/** Pulls a node's cable out of the router for good. Harmless when it is gone. */
export async function removePort(plan: LabPlan, node: NodePlan): Promise<void> {
  await ipBatch([`link del ${node.port}`], plan.router.namespace, true);
}

/** Removes whatever network a lab of this name has left. */
export async function removeNetworks(lab: string, hostDevice: string): Promise<void> {
  if (existsSync('/run/netns')) {
    const names = readdirSync('/run/netns').filter(name => name.startsWith(namespacePrefix(lab)));
    await ipBatch(
      names.map(name => `netns del ${name}`),
      undefined,
      true,
    );
  }
  if (existsSync(`/sys/class/net/${hostDevice}`)) await ipBatch([`link del ${hostDevice}`], undefined, true);
}

/** Runs lines of `ip -batch`, inside a namespace or here. `force` goes on after a line that fails. */
export async function ipBatch(lines: readonly string[], namespace?: string, force = false): Promise<void> {
  if (lines.length === 0) return;
  const args = [
    ...(namespace === undefined ? [] : ['-n', namespace]),
    ...(force ? ['-force'] : []),
    '-batch',
    '-',
  ];
  try {
    await run('ip', args, { input: `${lines.join('\n')}\n` });
  } catch (error) {
    if (!force) throw error;
  }
}

async function sysctl(namespace: string, settings: readonly string[]): Promise<void> {
  await run('ip', ['netns', 'exec', namespace, 'sysctl', '-qw', ...settings]);
}

function networkOf(pid: number): number | undefined {
  try {
    return Number(/\[(\d+)\]/.exec(readlinkSync(`/proc/${pid}/ns/net`))?.[1]);
  } catch {
    return undefined;
  }
}

function hexByte(value: number): string {
  return value.toString(16).padStart(2, '0');
}
