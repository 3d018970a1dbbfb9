import { join } from 'node:path';
import * as z from 'zod';
import { Failure } from '../failure.ts';
import { formatIPv4, type IPv4Prefix, nthAddress, overlap, parseIPv4Prefix } from './address.ts';
import type { ClusterConfig, LabConfig } from './config.ts';
import { diskDirectory } from './paths.ts';

/**
 * Everything about a lab that is decided before anything is made: names, numbers and addresses. It is
 * written down first, and what is made is found by these names, so that a lab can be removed after a
 * crash at any moment.
 */
const portMapping = z.object({
  containerPort: z.number(),
  hostPort: z.number(),
  listenAddress: z.string(),
  protocol: z.enum(['TCP', 'UDP']),
});

const node = z.object({
  /** Name of the Node object and host name: `us-worker2`. */
  name: z.string(),
  role: z.enum(['control-plane', 'worker']),
  /** Where the node is reached: of dual stack its IPv4 address. */
  address: z.string(),
  /** Its IPv6 address, '' where it has none; the same as `address` where it has no other. */
  address6: z.string().default(''),
  /** The router's end of the node's cable. */
  port: z.string(),
  /** Relative path of the node's cgroup in every hierarchy. */
  cgroup: z.string(),
  /** Folder of the node's disk, which outlives a reboot of the node. */
  disk: z.string(),
  machineID: z.string(),
  labels: z.record(z.string(), z.string()),
  kubeletArgs: z.record(z.string(), z.string()).default({}),
  portMappings: z.array(portMapping),
  mounts: z.array(z.object({ hostPath: z.string(), containerPath: z.string(), readOnly: z.boolean() })),
});

const cluster = z.object({
  name: z.string(),
  /** 1, 2, …: also the cluster ID that Isthmus is installed with. */
  number: z.number(),
  /** kubeconfig context. */
  context: z.string(),
  /** Bridge in the router's namespace. */
  /** The router's device toward the cluster, and the bridge behind it that the nodes' cables end in. */
  gatewayDevice: z.string(),
  bridge: z.string(),
  /** Addresses of nodes; the first is the router's. */
  subnet: z.string(),
  gateway: z.string(),
  /** The same of IPv6; '' where the cluster has none. */
  subnet6: z.string().default(''),
  gateway6: z.string().default(''),
  /** kind's ipFamily. */
  ipFamily: z.enum(['ipv4', 'ipv6', 'dual']).default('ipv4'),
  podSubnet: z.string(),
  serviceSubnet: z.string(),
  dnsAddress: z.string(),
  apiAddress: z.string(),
  install: z.boolean(),
  featureGates: z.record(z.string(), z.boolean()),
  runtimeConfig: z.record(z.string(), z.string()),
  nodes: z.array(node),
});

export const labPlan = z.object({
  name: z.string(),
  /** All addresses of the lab. */
  block: z.string(),
  router: z.object({
    namespace: z.string(),
    /** This machine's end of its cable to the router, and the addresses of both ends. */
    hostDevice: z.string(),
    hostAddress: z.string(),
    routerAddress: z.string(),
    /** The same of IPv6; '' where no cluster has it. */
    hostAddress6: z.string().default(''),
    routerAddress6: z.string().default(''),
  }),
  cgroup: z.string(),
  clusters: z.array(cluster),
  links: z.array(
    z.object({
      between: z.tuple([z.string(), z.string()]),
      delay: z.number().optional(),
      loss: z.number().optional(),
      rate: z.number().optional(),
    }),
  ),
});

export type LabPlan = z.infer<typeof labPlan>;
export type ClusterPlan = z.infer<typeof cluster>;
export type NodePlan = z.infer<typeof node>;

/** Prefix of the names of a lab's network namespaces in /run/netns. */
export function namespacePrefix(lab: string): string {
  return `isthmus.${lab}.`;
}

/** The namespace that a node's network is built in, until the node itself holds it. */
export function nodeNamespace(plan: LabPlan, nodeName: string): string {
  return `${namespacePrefix(plan.name)}${nodeName}`;
}

export const labCgroupRoot = 'isthmus-lab';
export const defaultLab = 'isthmus';

/** This machine's end of the cable to a lab's router. Device names have 15 characters at most. */
export function hostDevice(lab: string): string {
  return `lab-${lab}`;
}

/** Throws Failure unless the name can stand in the names of devices, namespaces and cgroups. */
export function checkLabName(name: string): string {
  if (/^[a-z0-9][a-z0-9-]{0,10}$/.test(name)) return name;
  throw new Failure(`--name: found "${name}", expected 1 to 11 lower-case letters, digits and hyphens`, {
    exitCode: 2,
  });
}

/** What a plan has to go round. */
export interface Surroundings {
  /** Prefixes that this machine uses already: its routes, other labs. */
  readonly prefixes: readonly IPv4Prefix[];
  /** kubeconfig contexts of other labs. */
  readonly contexts: ReadonlySet<string>;
  /** Makes a machine ID: 32 hexadecimal digits. */
  readonly machineID: () => string;
}

/**
 * Plans a lab. Its block of addresses is the first of 172.18.0.0/16 to 172.31.0.0/16 that meets nothing
 * this machine uses and no pod or service range. Contexts are `isthmus-us`, or `isthmus-LAB-us` where another
 * lab has that.
 */
export function planLab(name: string, config: LabConfig, surroundings: Surroundings): LabPlan {
  const block = freeBlock(config, surroundings.prefixes);
  const second = Math.floor(block.first / 2 ** 16) * 2 ** 16;
  const hostNet = formatIPv4(second);
  const net6 = block6(second);
  const ipv6 = config.clusters.some(each => each.ipFamily !== 'ipv4');
  return {
    name,
    block: `${formatIPv4(block.first)}/${block.length}`,
    router: {
      namespace: `${namespacePrefix(name)}router`,
      hostDevice: hostDevice(name),
      routerAddress: nthAddress(`${hostNet}/30`, 1),
      hostAddress: nthAddress(`${hostNet}/30`, 2),
      routerAddress6: ipv6 ? nthAddress(`${net6}::/64`, 1) : '',
      hostAddress6: ipv6 ? nthAddress(`${net6}::/64`, 2) : '',
    },
    cgroup: `${labCgroupRoot}/${name}`,
    clusters: config.clusters.map((entry, i) => planCluster(name, entry, i + 1, second, surroundings)),
    links: config.links.map(({ between, delay, loss, rate }) => ({
      between: [between[0], between[1]],
      ...(delay === undefined ? {} : { delay }),
      ...(loss === undefined ? {} : { loss }),
      ...(rate === undefined ? {} : { rate }),
    })),
  };
}

function planCluster(
  lab: string,
  config: ClusterConfig,
  number: number,
  block: number,
  { contexts, machineID }: Surroundings,
): ClusterPlan {
  const subnet = `${formatIPv4(block + number * 256)}/24`;
  const subnet6 = config.ipFamily === 'ipv4' ? '' : `${block6(block)}:${number}::/64`;
  let workers = 0;
  const nodes = config.nodes.map((entry, i): NodePlan => {
    // kind's names: worker, worker2, worker3.
    const role = entry.role === 'worker' ? `worker${++workers === 1 ? '' : workers}` : entry.role;
    const nodeName = `${config.name}-${role}`;
    return {
      name: nodeName,
      role: entry.role,
      address: nthAddress(config.ipFamily === 'ipv6' ? subnet6 : subnet, i + 2),
      address6: subnet6 === '' ? '' : nthAddress(subnet6, i + 2),
      port: `c${number}n${i}`,
      cgroup: `${labCgroupRoot}/${lab}/${nodeName}`,
      disk: join(diskDirectory(lab), nodeName),
      machineID: machineID(),
      labels: { ...entry.labels },
      kubeletArgs: { ...entry.kubeletArgs },
      portMappings: entry.portMappings.map(mapping => ({ ...mapping })),
      mounts: entry.mounts.map(mount => ({ ...mount })),
    };
  });
  return {
    name: config.name,
    number,
    context: contexts.has(`isthmus-${config.name}`)
      ? `isthmus-${lab}-${config.name}`
      : `isthmus-${config.name}`,
    gatewayDevice: `c${number}`,
    bridge: `c${number}bridge`,
    subnet,
    gateway: nthAddress(subnet, 1),
    subnet6,
    gateway6: subnet6 === '' ? '' : nthAddress(subnet6, 1),
    ipFamily: config.ipFamily,
    podSubnet: config.podSubnet,
    serviceSubnet: config.serviceSubnet,
    dnsAddress: nthAddress(firstOf(config.serviceSubnet), 10),
    apiAddress: nodes[0]!.address,
    install: config.install,
    featureGates: { ...config.featureGates },
    runtimeConfig: { ...config.runtimeConfig },
    nodes,
  };
}

/**
 * The addresses of a cluster's subnet that the router sends to its nodes, to any of them: what a network does with
 * load balancer addresses that nodes announce by BGP. All others of the subnet must be announced on it (ARP).
 */
export function loadBalancerRange(subnet: string): string {
  return `${nthAddress(subnet, 224)}/${subnet.includes(':') ? 123 : 27}`;
}

/** Of a list `10.1.0.0/16,fd00:10:1::/56` the first. */
export const firstOf = (subnets: string): string => subnets.split(',')[0]!;

/** A node's addresses, the one it is reached at first. */
export const addressesOf = ({ address, address6 }: Pick<NodePlan, 'address' | 'address6'>): string[] => [
  ...new Set([address, ...(address6 === '' ? [] : [address6])]),
];

/** The prefixes that a cluster's nodes have addresses of. */
export const subnetsOf = ({
  subnet,
  subnet6,
  ipFamily,
}: Pick<ClusterPlan, 'subnet' | 'subnet6' | 'ipFamily'>): string[] => [
  ...(ipFamily === 'ipv6' ? [] : [subnet]),
  ...(subnet6 === '' ? [] : [subnet6]),
];

/** The /48 that belongs to a block 172.K.0.0: as unique as that one. `6c:6162` is "lab". */
function block6(block: number): string {
  return `fd6c:6162:${((block >>> 16) & 0xff).toString(16)}`;
}

function freeBlock(config: LabConfig, taken: readonly IPv4Prefix[]): IPv4Prefix {
  const used = [...taken];
  for (const { podSubnet, serviceSubnet } of config.clusters) {
    for (const text of [podSubnet, serviceSubnet].flatMap(each => each.split(','))) {
      const prefix = parseIPv4Prefix(text);
      if (prefix !== undefined) used.push(prefix);
    }
  }
  for (let k = 18; k < 32; k++) {
    const candidate = parseIPv4Prefix(`172.${k}.0.0/16`)!;
    if (!used.some(prefix => overlap(prefix, candidate))) return candidate;
  }
  throw new Failure('no free range of node addresses: all of 172.18.0.0/16 to 172.31.0.0/16 is in use', {
    hint: 'see `ip route` and `isthmus lab status`',
  });
}
