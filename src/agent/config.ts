import { isIP } from 'node:net';
import * as z from 'zod';
import { duration, flag, listenAddress, parseSettings, sharedSettings, whole, words } from '../api/config.ts';
import { parsePrefix } from '../datapath/address.ts';
import { MAGLEV_SIZES } from '../loadbalancer/maglev.ts';
import { parseTopology, routingModes } from './paths.ts';

/** Gives a reader's error to the user with the name of the key. */
function parsed<T>(context: z.RefinementCtx, read: () => T): T {
  try {
    return read();
  } catch (error) {
    context.addIssue(error instanceof Error ? error.message : String(error));
    return z.NEVER;
  }
}

const prefixes = words.transform((list, context) =>
  parsed(context, () => {
    for (const each of list) parsePrefix(each);
    return list;
  }),
);

const size = whole(0, 1, 2 ** 24).optional();

const forwardingModes = ['snat', 'dsr', 'hybrid'] as const;

/** What the node daemon reads of the ConfigMap `isthmus-config`. */
const agentSettings = {
  ...sharedSettings,
  ipam: z.enum(['kubernetes'], { error: 'expected kubernetes' }).default('kubernetes'),
  'routing-mode': z
    .enum(routingModes, { error: `expected one of ${routingModes.join(', ')}` })
    .default('tunnel'),
  'auto-direct-node-routes': flag(true),
  /** Prefixes that reach each other without a tunnel, for routing-mode hybrid; empty: found by routes. */
  'subnet-topology': z
    .string()
    .default('')
    .transform((text, context) => parsed(context, () => parseTopology(text))),
  /** Pods show their own address to these, and to pods. */
  'ipv4-native-routing-cidr': prefixes,
  'non-masquerade-cidrs': prefixes,
  'tunnel-protocol': z.enum(['vxlan'], { error: 'expected vxlan' }).default('vxlan'),
  'tunnel-port': whole(8472, 1, 65535),
  /** Who takes packets for pods out of the tunnel. */
  'tunnel-unpack': z.enum(['program', 'device'], { error: 'expected program or device' }).default('program'),
  'enable-ipv4': flag(true),
  'enable-ipv6': flag(false),
  'enable-ipv4-masquerade': flag(true),
  'enable-ipv6-masquerade': flag(true),
  'kube-proxy-replacement': z.enum(['true'], { error: 'expected true' }).default('true'),
  /** Sockets of pods are left alone; their packets are translated one by one. */
  'bpf-lb-sock-hostns-only': flag(false),
  'node-port-range': z
    .string()
    .regex(/^\d{1,5},\d{1,5}$/, 'expected two ports, as 30000,32767')
    .default('30000,32767')
    .transform(text => {
      const [first, last] = text.split(',').map(Number) as [number, number];
      return { first, last };
    }),
  /** Processes of the node cannot bind the port of a NodePort service. */
  'node-port-bind-protection': flag(true),
  /** Where kube-proxy's health port is served; empty: nowhere. */
  'kube-proxy-replacement-healthz-bind-address': listenAddress(''),
  /** How packets find a backend, where the service does not say. */
  'bpf-lb-algorithm': z.enum(['random', 'maglev'], { error: 'expected random or maglev' }).default('random'),
  /** How clients outside reach backends of other nodes, where the service does not say. hybrid: dsr for TCP. */
  'bpf-lb-mode': z
    .enum(forwardingModes, { error: `expected one of ${forwardingModes.join(', ')}` })
    .default('snat'),
  /** What carries the service's address to the backend's node: an option of the IP header. */
  'bpf-lb-dsr-dispatch': z
    .enum(['opt'], { error: 'expected opt: ipip and geneve are not implemented' })
    .default('opt'),
  'bpf-lb-maglev-table-size': z
    .string()
    .default('16381')
    .transform(Number)
    .refine(
      size => MAGLEV_SIZES.some(each => each === size),
      `expected a prime of ${MAGLEV_SIZES.join(', ')}`,
    ),
  /** At least 12 bytes in base64, the same on all nodes; clients can not choose their backend without it. */
  'bpf-lb-maglev-hash-seed': z
    .string()
    .default('JLfvgnHc2kaSUFaI')
    .refine(
      text => Buffer.from(text, 'base64').length >= 12,
      'expected 12 bytes or more in base64, as of head -c12 /dev/urandom | base64',
    ),
  /** Names of the uplinks; empty: the link that has the node's address. */
  devices: words,
  /** Of the uplink, in bytes; 0: found. */
  mtu: whole(0, 0, 65535),
  /** False: filters of traffic control even where the kernel has tcx. */
  'enable-tcx': flag(true),
  'bpf-root': z.string().default('/sys/fs/bpf'),
  'bpf-ct-global-tcp-max': size,
  'bpf-ct-global-any-max': size,
  'bpf-nat-global-max': size,
  'bpf-lb-map-max': size,
  'bpf-policy-map-max': size,
  'enable-l2-announcements': flag(false),
  /** How long a node that answers for a service may be silent before another takes over. */
  'l2-announcements-lease-duration': duration('15s'),
  'l2-announcements-renew-deadline': duration('5s'),
  'l2-announcements-retry-period': duration('2s'),
  /** Nodes of this cluster, and a few of each other one, are probed, and what is dead gets no new connections. */
  'enable-health-checking': flag(true),
  'health-check-interval': duration('300ms'),
  /** Probes in a row without an answer after which a node is silent. */
  'health-check-icmp-failure-threshold': whole(5, 2, 100),
  /** How long a silent node has to answer until it is used again; longer each time it falls silent soon after. */
  'health-check-hold': duration('2s'),
  'cgroup-root': z.string().default('/host/sys/fs/cgroup'),
  'cni-exclusive': flag(true),
  'agent-health-port': whole(9879, 1, 65535),
  'prometheus-serve-addr': listenAddress(':9962'),
} as const;

export type AgentConfig = z.infer<z.ZodObject<typeof agentSettings>>;

/** Throws one error that names every bad key, its value and what was expected. */
export function parseAgentConfig(entries: Readonly<Record<string, string>>): AgentConfig {
  const config = parseSettings(agentSettings, entries);
  const keys = [
    'l2-announcements-lease-duration',
    'l2-announcements-renew-deadline',
    'l2-announcements-retry-period',
  ] as const;
  for (const [at, key] of keys.entries()) {
    const longer = keys[at - 1];
    if (longer && config[key] >= config[longer])
      throw new Error(
        `configuration: ${key}: found ${config[key] / 1000}s, expected less than ${longer} (${config[longer] / 1000}s)`,
      );
  }
  if (config['health-check-interval'] < 50)
    throw new Error(
      `configuration: health-check-interval: found ${config['health-check-interval']}ms, expected 50ms or more`,
    );
  if (config['bpf-lb-mode'] !== 'snat' && config['routing-mode'] === 'tunnel')
    throw new Error(
      `configuration: bpf-lb-mode: found ${config['bpf-lb-mode']}, expected snat, because routing-mode is tunnel: the option that names the service does not travel in the tunnel`,
    );
  if (!config['enable-ipv4'] && !config['enable-ipv6'])
    throw new Error('enable-ipv4: found false, expected true where enable-ipv6 is false, too');
  return config;
}

/** The families that pods have, IPv4 first. */
export const familiesOf = (config: Pick<AgentConfig, 'enable-ipv4' | 'enable-ipv6'>): (4 | 6)[] => [
  ...(config['enable-ipv4'] ? [4 as const] : []),
  ...(config['enable-ipv6'] ? [6 as const] : []),
];

/** What a pod learns about itself from its environment (downward API). */
export const environmentSchema = z.object({
  K8S_NODE_NAME: z.string('K8S_NODE_NAME: expected the name of the node').min(1),
  POD_NAME: z.string().default(''),
  POD_NAMESPACE: z.string().default('kube-system'),
  /** Overrides the node's InternalIP. */
  NODE_IP: z
    .string()
    .refine(text => isIP(text) !== 0, 'NODE_IP: expected an IP address')
    .optional(),
});
export type Environment = z.infer<typeof environmentSchema>;
