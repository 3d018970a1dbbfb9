import { basename } from 'node:path';
import { parseAllDocuments } from 'yaml';
import * as z from 'zod';
import { Failure } from '../failure.ts';
import { isIPv4Prefix, isIPv6Prefix } from './address.ts';
import { describeIssue } from './config-issue.ts';
import { kubeletSettings } from './kubeadm-patch.ts';

/** What a user wants of a lab: clusters in the order of their numbers, and the links between them. */
export interface LabConfig {
  readonly clusters: readonly ClusterConfig[];
  readonly links: readonly LinkConfig[];
  /** Fields that were understood and have no effect here, one sentence each. */
  readonly notes: readonly string[];
}

export type IpFamily = 'ipv4' | 'ipv6' | 'dual';

export interface ClusterConfig {
  readonly name: string;
  /** kind's ipFamily. */
  readonly ipFamily: IpFamily;
  /** Prefix, such as 10.1.0.0/16; of dual stack one of each family, IPv4 first, with a comma between. */
  readonly podSubnet: string;
  readonly serviceSubnet: string;
  /** False for kind's disableDefaultCNI: the cluster comes without a network. */
  readonly install: boolean;
  readonly featureGates: Readonly<Record<string, boolean>>;
  readonly runtimeConfig: Readonly<Record<string, string>>;
  /** The control-plane node first. */
  readonly nodes: readonly NodeConfig[];
}

export interface NodeConfig {
  readonly role: 'control-plane' | 'worker';
  readonly labels: Readonly<Record<string, string>>;
  /** Arguments of its kubelet beside the lab's own, without the dashes. */
  readonly kubeletArgs: Readonly<Record<string, string>>;
  readonly portMappings: readonly PortMapping[];
  readonly mounts: readonly HostMount[];
}

/** kind's extraPortMappings: a port of this machine that leads to a port of the node. */
export interface PortMapping {
  readonly containerPort: number;
  readonly hostPort: number;
  readonly listenAddress: string;
  readonly protocol: 'TCP' | 'UDP';
}

/** kind's extraMounts: a folder of this machine that a node sees. */
export interface HostMount {
  readonly hostPath: string;
  readonly containerPath: string;
  readonly readOnly: boolean;
}

/** How the path between two clusters behaves, in each direction. */
export interface LinkConfig {
  readonly between: readonly [string, string];
  /** Milliseconds each way. */
  readonly delay: number | undefined;
  /** Percent of packets lost, 0 to 100. */
  readonly loss: number | undefined;
  /** Bits per second. */
  readonly rate: number | undefined;
}

/** One configuration file as given on the command line. */
export interface ConfigFile {
  /** Name for the cluster of a document that has none. */
  readonly clusterName?: string | undefined;
  readonly path: string;
  readonly text: string;
}

export const kindApiVersion = 'kind.x-k8s.io/v1alpha4';
export const linkApiVersion = 'lab.isthmus.io/v1alpha1';

const name = z.string().regex(/^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$/, {
  error: 'lower-case letters, digits and hyphens, at most 32',
});
const port = z.int().min(1).max(65535);

const kindNode = z.strictObject({
  role: z.enum(['control-plane', 'worker']).default('control-plane'),
  image: z.string().optional(),
  labels: z.record(z.string(), z.string()).default({}),
  kubeadmConfigPatches: z.array(z.string()).default([]),
  extraPortMappings: z
    .array(
      z.strictObject({
        containerPort: port,
        hostPort: port,
        listenAddress: z.ipv4().default('0.0.0.0'),
        protocol: z.enum(['TCP', 'UDP']).default('TCP'),
      }),
    )
    .default([]),
  extraMounts: z
    .array(
      z.strictObject({
        hostPath: z.string().startsWith('/', { error: 'an absolute path' }),
        containerPath: z.string().startsWith('/', { error: 'an absolute path' }),
        readOnly: z.boolean().default(false),
        selinuxRelabel: z.boolean().optional(),
        propagation: z.enum(['None', 'HostToContainer', 'Bidirectional']).optional(),
      }),
    )
    .default([]),
});

const kindCluster = z.strictObject({
  apiVersion: z.literal(kindApiVersion),
  kind: z.literal('Cluster'),
  name: name.optional(),
  networking: z
    .strictObject({
      ipFamily: z.enum(['ipv4', 'ipv6', 'dual']).default('ipv4'),
      podSubnet: z.string().optional(),
      serviceSubnet: z.string().optional(),
      disableDefaultCNI: z.boolean().default(false),
      kubeProxyMode: z.enum(['none', 'iptables', 'ipvs', 'nftables']).optional(),
      dnsSearch: z.array(z.string()).optional(),
      apiServerAddress: z.ipv4().optional(),
      apiServerPort: port.optional(),
    })
    .default({ ipFamily: 'ipv4', disableDefaultCNI: false }),
  nodes: z.array(kindNode).min(1).prefault([{}]),
  kubeadmConfigPatches: z.array(z.string()).default([]),
  featureGates: z.record(z.string(), z.boolean()).default({}),
  runtimeConfig: z.record(z.string(), z.string()).default({}),
});

const link = z.strictObject({
  apiVersion: z.literal(linkApiVersion),
  kind: z.literal('Link'),
  between: z.tuple([name, name]),
  delay: z.string().optional(),
  loss: z.string().optional(),
  rate: z.string().optional(),
});

const documentKind = z.looseObject({ apiVersion: z.string(), kind: z.string() });

/** Two clusters, us and eu, of a control-plane node and two workers each. */
export function defaultConfig(): LabConfig {
  const nodes: NodeConfig[] = (['control-plane', 'worker', 'worker'] as const).map(role => ({
    role,
    labels: {},
    kubeletArgs: {},
    portMappings: [],
    mounts: [],
  }));
  const clusters = ['us', 'eu'].map((cluster, i) => ({
    name: cluster,
    ipFamily: 'ipv4' as const,
    podSubnet: defaultSubnets.pod.ipv4(i + 1),
    serviceSubnet: defaultSubnets.service.ipv4(i + 1),
    install: true,
    featureGates: {},
    runtimeConfig: {},
    nodes,
  }));
  return { clusters, links: [], notes: [] };
}

/**
 * Reads kind's configuration (`kind.x-k8s.io/v1alpha4` Cluster) and links of our own
 * (`lab.isthmus.io/v1alpha1` Link), several documents in a file. Throws Failure that names the file, the
 * document and the field.
 */
export function parseConfig(files: readonly ConfigFile[]): LabConfig {
  const clusters: ClusterConfig[] = [];
  const links: LinkConfig[] = [];
  const notes: string[] = [];
  for (const file of files) {
    const documents = readDocuments(file);
    const unnamed = documents.filter(d => d.kind === 'Cluster' && d.value.name === undefined).length;
    for (const { where, kind, value } of documents) {
      if (kind === 'Link') links.push(toLink(where, check(where, link, value)));
      else {
        const parsed = check(where, kindCluster, value);
        const given =
          parsed.name ?? (unnamed === 1 ? (file.clusterName ?? nameFromFile(file.path)) : undefined);
        if (given === undefined) {
          throw new Failure(`${where}: name: missing, expected the cluster's name`, {
            hint: 'add "name: us" to the document, or give the file as -f us=FILE',
          });
        }
        clusters.push(
          toCluster(where, check(`${where}: name`, name, given), clusters.length + 1, parsed, notes),
        );
      }
    }
  }
  checkTogether(clusters, links);
  return { clusters, links, notes };
}

/** A cluster name taken from a file name: `kind-us-cluster.yaml` gives `us`. */
export function nameFromFile(path: string): string | undefined {
  const words = basename(path)
    .replace(/\.(ya?ml|json)$/, '')
    .split(/[-_.]/)
    .filter(word => !['kind', 'cluster', 'config', 'lab', ''].includes(word.toLowerCase()));
  return words.length === 0 ? undefined : words.join('-').toLowerCase();
}

/** `40ms`, `0.5s` → milliseconds. Undefined when it is neither. */
export function parseDelay(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)(us|ms|s)$/.exec(text);
  if (match === null) return undefined;
  return Number(match[1]) * { us: 0.001, ms: 1, s: 1000 }[match[2] as 'us' | 'ms' | 's'];
}

/** `1%`, `0.1%` → percent, up to 100. */
export function parseLoss(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)%$/.exec(text);
  const percent = match === null ? Number.NaN : Number(match[1]);
  return percent >= 0 && percent <= 100 ? percent : undefined;
}

/** `100mbit`, `1gbit`, `64kbit` → bits per second. */
export function parseRate(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)(k|m|g)bit$/i.exec(text);
  if (match === null) return undefined;
  const bits = Number(match[1]) * { k: 1e3, m: 1e6, g: 1e9 }[match[2]!.toLowerCase() as 'k' | 'm' | 'g'];
  return bits > 0 ? bits : undefined;
}

interface ConfigDocument {
  readonly where: string;
  readonly kind: 'Cluster' | 'Link';
  readonly value: Readonly<Record<string, unknown>>;
}

function readDocuments(file: ConfigFile): ConfigDocument[] {
  const found: ConfigDocument[] = [];
  for (const [i, document] of parseAllDocuments(file.text).entries()) {
    const where = `${file.path}, document ${i + 1}`;
    const error = document.errors[0];
    if (error !== undefined) throw new Failure(`${where}: ${error.message}`);
    const value: unknown = document.toJS();
    if (value === null) continue;
    const head = check(where, documentKind, value);
    if (head.apiVersion === kindApiVersion && head.kind === 'Cluster') {
      found.push({ where: `${where} (Cluster)`, kind: 'Cluster', value: head });
    } else if (head.apiVersion === linkApiVersion && head.kind === 'Link') {
      found.push({ where: `${where} (Link)`, kind: 'Link', value: head });
    } else {
      throw new Failure(
        `${where}: found apiVersion "${head.apiVersion}", kind "${head.kind}", expected ` +
          `"${kindApiVersion}" Cluster or "${linkApiVersion}" Link`,
      );
    }
  }
  if (found.length === 0)
    throw new Failure(`${file.path}: no document in it, expected a ${kindApiVersion} Cluster`);
  return found;
}

function toCluster(
  where: string,
  clusterName: string,
  number: number,
  parsed: z.infer<typeof kindCluster>,
  notes: string[],
): ClusterConfig {
  const patches = patchesOf(`${where}: kubeadmConfigPatches`, parsed.kubeadmConfigPatches);
  const nodes = parsed.nodes
    .map((node, i) => {
      const own = patchesOf(`${where}: nodes[${i}].kubeadmConfigPatches`, node.kubeadmConfigPatches);
      const { labels, kubeletArgs } = kubeletSettings([...patches, ...own], node.role);
      return { ...node, kubeletArgs, labels: { ...node.labels, ...labels } };
    })
    .sort((a, b) => Number(a.role === 'worker') - Number(b.role === 'worker'));
  const controlPlanes = nodes.filter(node => node.role === 'control-plane').length;
  if (controlPlanes !== 1) {
    throw new Failure(
      `${where}: nodes: found ${controlPlanes} with role control-plane, expected exactly 1 in a lab`,
    );
  }
  const { networking } = parsed;
  const subnets = (kind: 'pod' | 'service', given: string | undefined): string => {
    const { ipFamily } = networking;
    if (given === undefined)
      return familiesOf(ipFamily)
        .map(family => defaultSubnets[kind][family](number))
        .join(',');
    const found = given.split(',').map(each => each.trim());
    const fits = familiesOf(ipFamily).map(family => (family === 'ipv4' ? isIPv4Prefix : isIPv6Prefix));
    if (found.length === fits.length && fits.every((fit, i) => fit(found[i]!))) return found.join(',');
    throw new Failure(
      `${where}: networking.${kind}Subnet: found "${given}", expected ${expectedSubnets[ipFamily]} for ipFamily ${ipFamily}`,
    );
  };
  if ((networking.kubeProxyMode ?? 'none') !== 'none')
    notes.push(
      `cluster ${clusterName}: kubeProxyMode is ignored: a lab has no kube-proxy, Isthmus replaces it`,
    );
  if (networking.dnsSearch !== undefined)
    notes.push(`cluster ${clusterName}: dnsSearch is ignored: a lab has no names outside its clusters`);
  if (nodes.some(node => node.image !== undefined))
    notes.push(`cluster ${clusterName}: image is ignored: nodes of a lab are not made of images`);
  const apiMapping: PortMapping[] =
    networking.apiServerPort === undefined
      ? []
      : [
          {
            containerPort: 6443,
            hostPort: networking.apiServerPort,
            listenAddress: networking.apiServerAddress ?? '127.0.0.1',
            protocol: 'TCP',
          },
        ];
  return {
    name: clusterName,
    ipFamily: networking.ipFamily,
    podSubnet: subnets('pod', networking.podSubnet),
    serviceSubnet: subnets('service', networking.serviceSubnet),
    install: !networking.disableDefaultCNI,
    featureGates: parsed.featureGates,
    runtimeConfig: parsed.runtimeConfig,
    nodes: nodes.map((node, i) => ({
      role: node.role,
      labels: node.labels,
      kubeletArgs: node.kubeletArgs,
      portMappings: [...node.extraPortMappings, ...(i === 0 ? apiMapping : [])],
      mounts: node.extraMounts.map(({ hostPath, containerPath, readOnly }) => ({
        hostPath,
        containerPath,
        readOnly,
      })),
    })),
  };
}

const patchesOf = (field: string, texts: readonly string[]) =>
  texts.map((text, i) => ({ where: `${field}[${i}]`, text }));

function toLink(where: string, parsed: z.infer<typeof link>): LinkConfig {
  const read = (
    field: 'delay' | 'loss' | 'rate',
    parse: (text: string) => number | undefined,
    like: string,
  ) => {
    const text = parsed[field];
    if (text === undefined) return undefined;
    const value = parse(text);
    if (value === undefined) throw new Failure(`${where}: ${field}: found "${text}", expected ${like}`);
    return value;
  };
  return {
    between: parsed.between,
    delay: read('delay', parseDelay, 'a time such as 40ms'),
    loss: read('loss', parseLoss, 'a share such as 1%'),
    rate: read('rate', parseRate, 'a rate such as 100mbit'),
  };
}

function checkTogether(clusters: readonly ClusterConfig[], links: readonly LinkConfig[]): void {
  const names = new Set<string>();
  const ports = new Map<string, string>();
  for (const cluster of clusters) {
    if (names.has(cluster.name))
      throw new Failure(`two clusters are named ${cluster.name}, expected different names`);
    names.add(cluster.name);
    for (const mapping of cluster.nodes.flatMap(node => node.portMappings)) {
      const key = `${mapping.protocol} port ${mapping.hostPort}`;
      const other = ports.get(key);
      if (other !== undefined)
        throw new Failure(`${key} of this machine is mapped twice, by ${other} and ${cluster.name}`);
      ports.set(key, cluster.name);
    }
  }
  for (const { between } of links) {
    const unknown = between.find(end => !names.has(end));
    if (unknown !== undefined) {
      throw new Failure(
        `link ${between.join('-')}: between: found "${unknown}", expected one of ${[...names].join(', ')}`,
      );
    }
    if (between[0] === between[1])
      throw new Failure(`link ${between.join('-')}: between: expected two different clusters`);
  }
}

function check<T extends z.ZodType>(where: string, schema: T, value: unknown): z.infer<T> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw new Failure(`${where}: ${result.error.issues.map(issue => describeIssue(issue, value)).join('; ')}`);
}

export const familiesOf = (ipFamily: IpFamily): readonly ('ipv4' | 'ipv6')[] =>
  ipFamily === 'dual' ? ['ipv4', 'ipv6'] : [ipFamily];

const expectedSubnets: Readonly<Record<IpFamily, string>> = {
  ipv4: 'an IPv4 prefix such as 10.1.0.0/16',
  ipv6: 'an IPv6 prefix such as fd00:10:1::/56',
  dual: 'an IPv4 and an IPv6 prefix such as 10.1.0.0/16,fd00:10:1::/56',
};

// Different in every cluster, because clusters with the same pod addresses cannot be joined.
const defaultSubnets = {
  pod: {
    ipv4: (number: number): string => `10.${number}.0.0/16`,
    ipv6: (number: number): string => `fd00:10:${number}::/56`,
  },
  service: {
    ipv4: (number: number): string => `10.${96 + number}.0.0/16`,
    ipv6: (number: number): string => `fd00:10:${96 + number}::/112`,
  },
} as const;
