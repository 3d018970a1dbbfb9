import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, isAbsolute, join } from 'node:path';
import { promisify } from 'node:util';
import { parse as parseYaml } from 'yaml';
import * as z from 'zod';
import { type ClusterAccess, type Credentials, type TlsMaterial, watchedFile } from './access.ts';

export interface KubeconfigOptions {
  /** Files to read, merged first wins; default $KUBECONFIG or ~/.kube/config. */
  readonly kubeconfig?: string | undefined;
  /** Default: the file's current-context. */
  readonly context?: string | undefined;
}

const Exec = z.object({
  apiVersion: z.string(),
  command: z.string(),
  args: z.array(z.string()).nullish(),
  env: z.array(z.object({ name: z.string(), value: z.string() })).nullish(),
});

const Cluster = z.object({
  server: z.string(),
  'certificate-authority': z.string().optional(),
  'certificate-authority-data': z.string().optional(),
  'insecure-skip-tls-verify': z.boolean().optional(),
  'tls-server-name': z.string().optional(),
});

const User = z.object({
  token: z.string().optional(),
  tokenFile: z.string().optional(),
  'client-certificate': z.string().optional(),
  'client-certificate-data': z.string().optional(),
  'client-key': z.string().optional(),
  'client-key-data': z.string().optional(),
  exec: Exec.nullish(),
});

const Context = z.object({ cluster: z.string(), user: z.string(), namespace: z.string().optional() });

const Kubeconfig = z.object({
  'current-context': z.string().optional(),
  clusters: z.array(z.object({ name: z.string(), cluster: Cluster })).nullish(),
  users: z.array(z.object({ name: z.string(), user: User.nullish() })).nullish(),
  contexts: z.array(z.object({ name: z.string(), context: Context })).nullish(),
});

/** Several files as one; each entry remembers its file's folder, which relative paths in it mean. */
interface Merged {
  current: string | undefined;
  readonly clusters: Map<string, { folder: string; cluster: z.infer<typeof Cluster> }>;
  readonly users: Map<string, { folder: string; user: z.infer<typeof User> | null | undefined }>;
  readonly contexts: Map<string, z.infer<typeof Context>>;
}

/** Access by a kubeconfig: certificates, tokens, token files and exec credential plugins. */
export function kubeconfigAccess(options: KubeconfigOptions = {}): ClusterAccess {
  const merged = load(options.kubeconfig);
  const name = options.context ?? merged.current;
  if (!name) throw new Error('kubeconfig: no context named and no current-context set');
  const context = merged.contexts.get(name);
  if (!context)
    throw new Error(
      `kubeconfig: no context ${name}; there are: ${[...merged.contexts.keys()].join(', ') || 'none'}`,
    );
  const found = merged.clusters.get(context.cluster);
  if (!found)
    throw new Error(`kubeconfig: context ${name} names cluster ${context.cluster}, which is not there`);
  const { cluster } = found;
  const base: TlsMaterial = {
    ...material('ca', cluster['certificate-authority-data'], cluster['certificate-authority'], found.folder),
    ...(cluster['tls-server-name'] ? { servername: cluster['tls-server-name'] } : {}),
    ...(cluster['insecure-skip-tls-verify'] ? { insecure: true } : {}),
  };
  return { server: new URL(cluster.server), credentials: identity(merged, context.user, base) };
}

/** The context names of a kubeconfig and which one is current. */
export function kubeconfigContexts(kubeconfig?: string): { current: string | undefined; names: string[] } {
  const merged = load(kubeconfig);
  return { current: merged.current, names: [...merged.contexts.keys()] };
}

function identity(merged: Merged, name: string, base: TlsMaterial): () => Promise<Credentials> {
  const entry = merged.users.get(name);
  const user = entry?.user;
  if (!entry || !user) return async () => ({ tls: base });
  const tls: TlsMaterial = {
    ...base,
    ...material('cert', user['client-certificate-data'], user['client-certificate'], entry.folder),
    ...material('key', user['client-key-data'], user['client-key'], entry.folder),
  };
  if (user.exec) return execCredentials(user.exec, entry.folder, tls);
  if (user.tokenFile) {
    const token = watchedFile(beside(entry.folder, user.tokenFile));
    return async () => ({ tls, token: (await token()).trim() });
  }
  const credentials: Credentials = { tls, ...(user.token ? { token: user.token } : {}) };
  return async () => credentials;
}

const ExecCredential = z.object({
  status: z.object({
    expirationTimestamp: z.string().optional(),
    token: z.string().optional(),
    clientCertificateData: z.string().optional(),
    clientKeyData: z.string().optional(),
  }),
});

/** client-go credential plugins: a command prints an ExecCredential, good until it expires. */
function execCredentials(
  exec: z.infer<typeof Exec>,
  folder: string,
  base: TlsMaterial,
): () => Promise<Credentials> {
  let held: { credentials: Credentials; until: number } | undefined;
  const command = exec.command.includes('/') ? beside(folder, exec.command) : exec.command;
  return async () => {
    if (held && Date.now() < held.until) return held.credentials;
    const env = Object.fromEntries((exec.env ?? []).map(each => [each.name, each.value]));
    const info = { kind: 'ExecCredential', apiVersion: exec.apiVersion, spec: { interactive: false } };
    const { stdout } = await promisify(execFile)(command, exec.args ?? [], {
      env: { ...process.env, ...env, KUBERNETES_EXEC_INFO: JSON.stringify(info) },
    });
    const { status } = ExecCredential.parse(JSON.parse(stdout));
    const tls: TlsMaterial = {
      ...base,
      ...(status.clientCertificateData ? { cert: status.clientCertificateData } : {}),
      ...(status.clientKeyData ? { key: status.clientKeyData } : {}),
    };
    const until = status.expirationTimestamp
      ? Date.parse(status.expirationTimestamp) - 60_000
      : Number.POSITIVE_INFINITY;
    held = { credentials: { tls, ...(status.token ? { token: status.token } : {}) }, until };
    return held.credentials;
  };
}

function load(named: string | undefined): Merged {
  const list = named ?? process.env.KUBECONFIG;
  const paths = list ? list.split(':').filter(Boolean) : [join(homedir(), '.kube', 'config')];
  const merged: Merged = { current: undefined, clusters: new Map(), users: new Map(), contexts: new Map() };
  let found = 0;
  for (const path of paths) {
    let text: string;
    try {
      text = readFileSync(path, 'utf8');
    } catch (error) {
      // Like kubectl: of several files some may be missing.
      if ((error as NodeJS.ErrnoException).code === 'ENOENT' && !named) continue;
      throw new Error(`kubeconfig ${path}: ${(error as Error).message}`);
    }
    found++;
    const parsed = Kubeconfig.safeParse(parseYaml(text) ?? {});
    if (!parsed.success) throw new Error(`kubeconfig ${path}: ${z.prettifyError(parsed.error)}`);
    const folder = dirname(path);
    const config = parsed.data;
    merged.current ??= config['current-context'] || undefined;
    for (const { name, cluster } of config.clusters ?? [])
      putFirst(merged.clusters, name, { folder, cluster });
    for (const { name, user } of config.users ?? []) putFirst(merged.users, name, { folder, user });
    for (const each of config.contexts ?? []) putFirst(merged.contexts, each.name, each.context);
  }
  if (!found) throw new Error(`no kubeconfig: none of ${paths.join(', ')} exists`);
  return merged;
}

function putFirst<V>(map: Map<string, V>, key: string, value: V): void {
  if (!map.has(key)) map.set(key, value);
}

function material(
  field: 'ca' | 'cert' | 'key',
  data: string | undefined,
  file: string | undefined,
  folder: string,
): TlsMaterial {
  if (data) return { [field]: Buffer.from(data, 'base64') };
  return file ? { [field]: readFileSync(beside(folder, file)) } : {};
}

function beside(folder: string, path: string): string {
  return isAbsolute(path) ? path : join(folder, path);
}
