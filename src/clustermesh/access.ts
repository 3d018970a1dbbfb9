import { Code, ConnectError } from '@connectrpc/connect';
import type { EtcdConnection } from '../kvstore/connection.ts';
import { Permission_Type } from '../kvstore/gen/etcd/api/authpb/auth_pb.js';
import { encodeKey, prefixEnd } from '../kvstore/range.ts';

/**
 * Who may do what in a cluster's mesh etcd. Users have no password: etcd takes the common name of the
 * client's certificate as the user. Ranges as in Cilium, so that its clients work too.
 */
interface Role {
  readonly name: string;
  /** Prefixes, or single keys, that its users may read. Nobody but root writes. */
  readonly reads: readonly ({ readonly prefix: string } | { readonly key: string })[];
}

/** Common name and etcd user of the certificates of one cluster. */
export const adminUser = (cluster: string): string => `admin-${cluster}`;
export const localUser = (cluster: string): string => `local-${cluster}`;
/** The user of one remote cluster; `remote` is shared by all that connect as older Cilium does. */
export const remoteUser = (remote: string): string => `remote-${remote}`;
export const sharedRemoteUser = 'remote';

function rolesOf(cluster: string): readonly Role[] {
  const heartbeat = { prefix: 'cilium/.heartbeat' };
  return [
    {
      name: 'remote',
      reads: [
        heartbeat,
        { prefix: 'cilium/state/' },
        { key: `cilium/cluster-config/${cluster}` },
        { prefix: `cilium/synced/${cluster}/` },
      ],
    },
    {
      name: 'local',
      reads: [
        heartbeat,
        { prefix: 'cilium/cache/' },
        { prefix: 'cilium/cluster-config/' },
        { prefix: 'cilium/synced/' },
      ],
    },
  ];
}

/**
 * Creates roles and users of `cluster`'s etcd and turns authentication on as the last step. Safe to repeat;
 * a repeat needs a connection with the admin certificate.
 */
export async function ensureAccess(connection: EtcdConnection, cluster: string): Promise<void> {
  await ensureUser(connection, 'root', 'root');
  await ensureUser(connection, adminUser(cluster), 'root');
  for (const role of rolesOf(cluster)) {
    await unlessExists(connection.auth.roleAdd({ name: role.name }));
    for (const read of role.reads)
      await connection.auth.roleGrantPermission({
        name: role.name,
        perm: {
          permType: Permission_Type.READ,
          ...('key' in read
            ? { key: encodeKey(read.key) }
            : { key: encodeKey(read.prefix), rangeEnd: prefixEnd(read.prefix) }),
        },
      });
  }
  await ensureUser(connection, localUser(cluster), 'local');
  await ensureUser(connection, sharedRemoteUser, 'remote');
  await connection.auth.authEnable({});
}

/** Makes `remote-<cluster>` users exist for exactly the clusters named. Resolves to what changed. */
export async function syncRemoteUsers(
  connection: EtcdConnection,
  clusters: readonly string[],
): Promise<{ readonly added: readonly string[]; readonly removed: readonly string[] }> {
  const { users } = await connection.auth.userList({});
  const wanted = new Set(clusters.map(remoteUser));
  const present = new Set(users.filter(name => name.startsWith(remoteUser(''))));
  const removed = [...present].filter(name => !wanted.has(name));
  const added = [...wanted].filter(name => !present.has(name));
  for (const name of removed) await connection.auth.userDelete({ name });
  for (const name of wanted) await ensureUser(connection, name, 'remote');
  return { added, removed };
}

async function ensureUser(connection: EtcdConnection, name: string, role: string): Promise<void> {
  if (role === 'root') await unlessExists(connection.auth.roleAdd({ name: 'root' }));
  await unlessExists(connection.auth.userAdd({ name, options: { noPassword: true } }));
  await unlessExists(connection.auth.userGrantRole({ user: name, role }));
}

/** etcd answers FailedPrecondition for a user, role or grant that is there already. */
async function unlessExists(call: Promise<unknown>): Promise<void> {
  try {
    await call;
  } catch (error) {
    const exists =
      error instanceof ConnectError &&
      (error.code === Code.FailedPrecondition || error.code === Code.AlreadyExists) &&
      /already/.test(error.message);
    if (!exists) throw error;
  }
}
