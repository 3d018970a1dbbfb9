import * as z from 'zod';
import { duration, flag, listenAddress, parseSettings, sharedSettings, whole } from '../api/config.ts';

/** What clustermesh-apiserver reads of the ConfigMap isthmus-config. Keys are named as in cilium-config. */
const settings = {
  ...sharedSettings,
  'cluster-id': whole(0, 1, 511),
  /** Service exports (MCS-API) are exported, too. */
  'clustermesh-enable-mcs-api': flag(false),
  'clustermesh-apiserver-health-port': whole(9880, 1, 65535),
  'clustermesh-apiserver-prometheus-serve-addr': listenAddress(':9964'),
  /** Objects of a namespace that does not say whether it is global are exported. */
  'clustermesh-default-global-namespace': flag(true),
  /** The mirror: the folder of remote clusters' configurations, and where it is asked how it is. */
  'clustermesh-config': z.string().default('/var/lib/cilium/clustermesh/'),
  'kvstoremesh-health-port': whole(9881, 1, 65535),
  'kvstoremesh-prometheus-serve-addr': listenAddress(':9965'),
  /** How long a key outlives this process. */
  'kvstore-lease-ttl': duration('15m'),
} as const;

export type ApiserverConfig = z.infer<z.ZodObject<typeof settings>>;

export function parseApiserverConfig(entries: Readonly<Record<string, string>>): ApiserverConfig {
  return parseSettings(settings, entries);
}
