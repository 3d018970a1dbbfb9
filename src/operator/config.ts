import * as z from 'zod';
import { duration, flag, listenAddress, parseSettings, sharedSettings, words } from '../api/config.ts';

/** What the operator reads of the ConfigMap isthmus-config. Keys are named as in cilium-config. */
const settings = {
  ...sharedSettings,
  'enable-ipv4': flag(true),
  'enable-ipv6': flag(false),
  'operator-api-serve-addr': listenAddress('127.0.0.1:9234'),
  'operator-prometheus-serve-addr': listenAddress(':9963'),
  /** How often unused identities are looked for. */
  'identity-gc-interval': duration('15m'),
  /** How long an identity must have been unused before it goes. */
  'identity-heartbeat-timeout': duration('30m'),
  /** How often CiliumEndpoints without a pod are looked for. */
  'cilium-endpoint-gc-interval': duration('5m'),
  /** How often CiliumNodes without a node are looked for. */
  'nodes-gc-interval': duration('5m'),
  /** Services of type LoadBalancer that have their addresses get the finalizer of a load balancer. */
  'lb-ipam-cleanup-finalizer': flag(false),
  /** Endpoints of other clusters are copied into EndpointSlices, for headless global services and those that ask for it. */
  'clustermesh-enable-endpoint-sync': flag(false),
  /** This cluster exports to others. */
  'enable-clustermesh-apiserver': flag(false),
  /** Namespaces that do not say so are for other clusters, too. */
  'clustermesh-default-global-namespace': flag(true),
  /** Multi-Cluster Services API: ServiceExports and ServiceImports. */
  'clustermesh-enable-mcs-api': flag(false),
  /** Install its definitions; false: somebody else does. */
  'clustermesh-mcs-api-install-crds': flag(true),
  /** Have this cluster's CoreDNS answer for the clusterset. */
  'clustermesh-mcs-api-configure-coredns': flag(false),
  'coredns-namespace': z.string().default('kube-system'),
  'coredns-config-map': z.string().default('coredns'),
  'coredns-deployment': z.string().default('coredns'),
  'coredns-cluster-domain': z.string().default('cluster.local'),
  'coredns-clusterset-domain': z.string().default('clusterset.local'),
  /** Name under which this cluster reads others: `cluster` its own (`remote-<cluster>`), else `remote`. */
  'clustermesh-auth-mode': z.enum(['legacy', 'migration', 'cluster']).default('migration'),
  /** Further names and addresses of the mesh etcd's server certificate. */
  'clustermesh-apiserver-extra-dns-names': words,
  'clustermesh-apiserver-extra-ip-addresses': words,
} as const;

export type OperatorConfig = z.infer<z.ZodObject<typeof settings>>;

export function parseOperatorConfig(entries: Readonly<Record<string, string>>): OperatorConfig {
  return parseSettings(settings, entries);
}
