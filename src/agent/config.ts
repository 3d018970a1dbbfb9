import { isIPv4 } from 'node:net';
import { z } from 'zod';
import { clusterName, flag, integer, listenAddress, words } from '../api/config.ts';

/** The node daemon's part of the ConfigMap `isthmus-config`. */
export const agentConfigSchema = z
  .object({
    'cluster-name': clusterName.default('default'),
    /** 1 to 255 in a mesh; 0: alone. */
    'cluster-id': integer(0, 511).prefault('0'),
    'max-connected-clusters': z.enum(['255', '511']).default('255').transform(Number),
    'clustermesh-config': z.string().default('/var/lib/cilium/clustermesh/'),
    ipam: z.enum(['kubernetes']).default('kubernetes'),
    'routing-mode': z.enum(['tunnel']).default('tunnel'),
    'tunnel-protocol': z.enum(['vxlan']).default('vxlan'),
    'tunnel-port': integer(1, 65535).prefault('8472'),
    'enable-ipv4': flag(true),
    'enable-ipv6': flag(false),
    'enable-ipv4-masquerade': flag(true),
    'kube-proxy-replacement': flag(true),
    'node-port-range': z
      .string()
      .regex(/^\d+,\d+$/, 'expected two ports, as 30000,32767')
      .default('30000,32767'),
    /** Names of the uplinks; empty: found by the default route. */
    devices: words,
    /** Of the uplink, in bytes; 0: found. */
    mtu: integer(0, 65535).prefault('0'),
    'bpf-root': z.string().default('/sys/fs/bpf'),
    'bpf-ct-global-tcp-max': integer(1, 2 ** 24).optional(),
    'bpf-ct-global-any-max': integer(1, 2 ** 24).optional(),
    'bpf-nat-global-max': integer(1, 2 ** 24).optional(),
    'bpf-lb-map-max': integer(1, 2 ** 24).optional(),
    'cgroup-root': z.string().default('/host/sys/fs/cgroup'),
    'cni-exclusive': flag(true),
    'agent-not-ready-taint-key': z.string().default('node.cilium.io/agent-not-ready'),
    'agent-health-port': integer(1, 65535).prefault('9879'),
    'prometheus-serve-addr': listenAddress.prefault(':9962'),
    debug: flag(false),
  })
  .superRefine((config, context) => {
    if (config['cluster-id'] > config['max-connected-clusters'])
      context.addIssue({
        code: 'custom',
        path: ['cluster-id'],
        message: `expected 0 to ${config['max-connected-clusters']} (max-connected-clusters)`,
      });
    if (config['cluster-id'] !== 0 && config['cluster-name'] === 'default')
      context.addIssue({
        code: 'custom',
        path: ['cluster-name'],
        message: 'expected a name of its own, because cluster-id is not 0',
      });
    if (!config['enable-ipv4'])
      context.addIssue({ code: 'custom', path: ['enable-ipv4'], message: 'expected true' });
  });

export type AgentConfig = z.infer<typeof agentConfigSchema>;

/** What a pod learns about itself from its environment (downward API). */
export const environmentSchema = z.object({
  K8S_NODE_NAME: z.string().min(1, 'expected the name of the node'),
  POD_NAME: z.string().default(''),
  POD_NAMESPACE: z.string().default('kube-system'),
  /** An IPv4 address that overrides the node's InternalIP. */
  NODE_IP: z.string().refine(isIPv4, 'expected an IPv4 address').optional(),
});
export type Environment = z.infer<typeof environmentSchema>;
