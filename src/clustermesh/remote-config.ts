import { parse as parseYaml } from 'yaml';
import * as z from 'zod';
import type { TlsFiles } from '../kvstore/connection.ts';
import { type Endpoint, parseEndpoints } from '../kvstore/endpoint.ts';

/** How the etcd of one remote cluster is reached: one file of the configuration folder. */
export interface RemoteConfig {
  readonly cluster: string;
  readonly endpoints: readonly Endpoint[];
  readonly tls: TlsFiles;
}

const schema = z.object({
  endpoints: z.array(z.string()).min(1, 'expected at least one address'),
  'trusted-ca-file': z.string(),
  'cert-file': z.string(),
  'key-file': z.string(),
  'cilium-host-aliases': z
    .union([
      z.array(z.object({ hostname: z.string(), ips: z.array(z.string()) })),
      z.record(z.string(), z.array(z.string())),
    ])
    .nullish(),
});

/** A file of the folder that is a cluster's configuration, and no certificate. */
export const isRemoteConfig = (text: string): boolean => text.includes('endpoints:');

/**
 * Reads the etcd client YAML of a cluster. @throws Error naming cluster, field and what was expected
 * Source: Cilium documentation, "Cluster Mesh": `cilium-host-aliases` in both the forms charts have written.
 */
export function parseRemoteConfig(cluster: string, text: string): RemoteConfig {
  if (!/^[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?$/.test(cluster))
    throw new Error(`cluster name: found ${JSON.stringify(cluster)}, expected 1 to 32 of a-z, 0-9 and '-'`);
  let document: unknown;
  try {
    document = parseYaml(text);
  } catch (error) {
    throw new Error(`no YAML: ${error instanceof Error ? error.message.split('\n')[0] : error}`);
  }
  const parsed = schema.safeParse(document);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw new Error(`${issue.path.join('.')}: ${issue.message}`);
  }
  const { endpoints, ...rest } = parsed.data;
  const given = rest['cilium-host-aliases'] ?? [];
  const aliases = new Map(
    Array.isArray(given) ? given.map(({ hostname, ips }) => [hostname, ips]) : Object.entries(given),
  );
  return {
    cluster,
    endpoints: parseEndpoints(endpoints, aliases),
    tls: { ca: rest['trusted-ca-file'], cert: rest['cert-file'], key: rest['key-file'] },
  };
}
