import { parse as parseYaml } from 'yaml';
import * as z from 'zod';
import type { KubeClient } from '../kube/client.ts';
import { ConfigMap } from '../kube/objects.ts';
import { type Reflection, reflect } from '../kube/reflect.ts';
import { pathOf, resources } from '../kube/resource.ts';
import { Table } from '../table/table.ts';
import { remoteUser } from './access.ts';

/** ConfigMap that names the clusters which may read this one's etcd: users.yaml, as in Cilium. */
export const remoteUsersName = 'clustermesh-remote-users';

/** A cluster that may read. */
export interface RemoteReader {
  readonly cluster: string;
}

const users = z.object({
  users: z.array(z.object({ name: z.string(), role: z.string() })).nullish(),
});

/** Clusters named by users.yaml: `users: [{name: remote-eu, role: remote}]`. @throws Error naming the field */
export function parseRemoteUsers(text: string): string[] {
  const parsed = users.safeParse(parseYaml(text) ?? {});
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw new Error(`users.yaml: ${issue.path.join('.')}: ${issue.message}`);
  }
  return (parsed.data.users ?? []).map(({ name, role }) => {
    const cluster = name.startsWith(remoteUser('')) ? name.slice(remoteUser('').length) : '';
    if (!cluster || role !== 'remote')
      throw new Error(
        `users.yaml: found user ${JSON.stringify(name)} of role ${role}, expected remote-<cluster> of role remote`,
      );
    return cluster;
  });
}

/** The ConfigMap's one row. */
export interface RemoteUsers {
  readonly clusters: readonly string[];
}

/** Follows the ConfigMap; the table is empty while there is none. */
export function reflectRemoteUsers(
  client: KubeClient,
  namespace: string,
  options: {
    readonly signal: AbortSignal;
    readonly onBad: (object: string, error: Error) => void;
    readonly onError: (error: Error) => void;
  },
): { readonly table: Table<RemoteUsers>; readonly reflection: Reflection } {
  const table = new Table<RemoteUsers>({
    name: 'remote-users',
    keyOf: () => remoteUsersName,
    equal: (a, b) => a.clusters.join() === b.clusters.join(),
  });
  const reflection = reflect(client, {
    path: pathOf(resources.configMaps, { namespace }),
    fieldSelector: `metadata.name=${remoteUsersName}`,
    schema: ConfigMap,
    table,
    toRow: object => ({ clusters: parseRemoteUsers(object.data?.['users.yaml'] ?? '') }),
    signal: options.signal,
    onBad: ({ object, error }) => options.onBad(object, error),
    onError: options.onError,
  });
  return { table, reflection };
}
