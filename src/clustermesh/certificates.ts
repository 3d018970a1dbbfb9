import type { KubeClient } from '../kube/client.ts';
import { Secret } from '../kube/objects.ts';
import { pathOf, resources, typeOf } from '../kube/resource.ts';
import { isAlreadyExists, isNotFound } from '../kube/status.ts';
import { adminUser, localUser, remoteUser, sharedRemoteUser } from './access.ts';
import { backdate, newAuthority } from './authority.ts';
import type { AuthorityData } from './authority-rotation.ts';
import {
  type CertificateRequest,
  isSignedBy,
  issueCertificate,
  type KeyPair,
  readCertificate,
} from './x509.ts';

export interface CertificateConfig {
  readonly namespace: string;
  readonly cluster: string;
  /** The common client certificate names this cluster (`remote-<cluster>`), not just any (`remote`). Default false. */
  readonly ownRemoteUser?: boolean;
  /** Names and addresses in the server's certificate beside the usual ones. */
  readonly extraDnsNames?: readonly string[];
  readonly extraIpAddresses?: readonly string[];
}

/** The cluster's own authority, made by the operator; its keys are those of {@link AuthorityData}. */
export const authoritySecret = 'isthmus-ca';
/** An authority that was given to the cluster, as to its peers; counts before its own. Name and keys as in Cilium. */
export const sharedAuthoritySecret = 'cilium-ca';

const certificateLife = 365 * 86_400_000;
/** What carries this label we made, and renew; other certificates are their owner's business. */
const managedBy = { 'app.kubernetes.io/managed-by': 'isthmus-operator' };

type Wanted = Pick<CertificateRequest, 'commonName' | 'dnsNames' | 'ipAddresses' | 'usages'>;

/** The mesh's certificates: Secret → what must be in it. Names as in Cilium. */
export function wantedCertificates(config: CertificateConfig): Readonly<Record<string, Wanted>> {
  const service = `clustermesh-apiserver.${config.namespace}.svc`;
  return {
    'clustermesh-apiserver-server-cert': {
      commonName: service,
      dnsNames: [
        '*.mesh.cilium.io',
        service,
        'clustermesh-apiserver.cilium.io',
        'localhost',
        ...(config.extraDnsNames ?? []),
      ],
      ipAddresses: ['127.0.0.1', '::1', ...(config.extraIpAddresses ?? [])],
      // etcd's one member is, to itself, a client too.
      usages: ['server', 'client'],
    },
    'clustermesh-apiserver-admin-cert': { commonName: adminUser(config.cluster), usages: ['client'] },
    'clustermesh-apiserver-remote-cert': {
      commonName: config.ownRemoteUser ? remoteUser(config.cluster) : sharedRemoteUser,
      usages: ['client'],
    },
    'clustermesh-apiserver-local-cert': { commonName: localUser(config.cluster), usages: ['client'] },
  };
}

/**
 * Makes the cluster's authority (once) and the mesh's certificates, and renews those that have lived two thirds
 * of their life, say something else than wanted, or were signed by another authority. Safe to repeat at any
 * time and by several callers at once. Resolves to the names of the Secrets it wrote.
 * @throws Error naming the Secret that is in the way
 */
export async function ensureCertificates(
  client: KubeClient,
  config: CertificateConfig,
  now: Date = new Date(),
): Promise<readonly string[]> {
  const { authority, created } = await ensureAuthority(client, config, now);
  const changed = created ? [authoritySecret] : [];
  for (const [name, wanted] of Object.entries(wantedCertificates(config))) {
    const present = await readSecret(client, config.namespace, name);
    if (present && (await isGood(present, wanted, authority, now))) continue;
    const pair = await issueCertificate(authority, {
      ...wanted,
      notBefore: new Date(now.getTime() - backdate),
      notAfter: new Date(now.getTime() + certificateLife),
    });
    const data = { 'ca.crt': authority.cert, 'tls.crt': pair.cert, 'tls.key': pair.key };
    await writeSecret(client, config.namespace, name, 'kubernetes.io/tls', data, present);
    changed.push(name);
  }
  return changed;
}

/** Calls `ensureCertificates` now and then every hour, until `signal` aborts; after a failure much sooner. */
export async function keepCertificates(
  client: KubeClient,
  config: CertificateConfig,
  options: {
    readonly signal: AbortSignal;
    readonly onChanged: (secrets: readonly string[]) => void;
    readonly onError: (error: Error) => void;
  },
): Promise<void> {
  const { signal } = options;
  for (let failures = 0; !signal.aborted; ) {
    let delay = 3_600_000;
    try {
      const changed = await ensureCertificates(client, config);
      failures = 0;
      if (changed.length) options.onChanged(changed);
    } catch (error) {
      options.onError(error instanceof Error ? error : new Error(String(error)));
      delay = Math.min(60_000, 500 * 2 ** failures++);
    }
    await new Promise<void>(resolve => {
      const end = (): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', end);
        resolve();
      };
      const timer = setTimeout(end, delay);
      if (signal.aborted) end();
      else signal.addEventListener('abort', end, { once: true });
    });
  }
}

/** The cluster's authority as it stands in Kubernetes. @throws Error when there is none, or it cannot sign */
export async function readAuthority(client: KubeClient, namespace: string): Promise<KeyPair> {
  const authority = await findAuthority(client, namespace);
  if (!authority)
    throw new Error(
      `Secret ${namespace}/${authoritySecret} is not there yet: the operator makes it when cluster.id is set`,
    );
  return authority;
}

async function findAuthority(client: KubeClient, namespace: string): Promise<KeyPair | undefined> {
  for (const name of [sharedAuthoritySecret, authoritySecret]) {
    const secret = await readSecret(client, namespace, name);
    if (secret) return authorityOf(secret, namespace);
  }
  return undefined;
}

async function ensureAuthority(
  client: KubeClient,
  config: CertificateConfig,
  now: Date,
): Promise<{ authority: KeyPair; created: boolean }> {
  const { namespace, cluster } = config;
  const present = await findAuthority(client, namespace);
  if (present) return { authority: present, created: false };
  const authority = await newAuthority(cluster, now);
  try {
    const data = { 'ca.crt': authority.cert, 'ca.key': authority.key };
    await writeSecret(client, namespace, authoritySecret, 'Opaque', data, undefined);
    return { authority, created: true };
  } catch (error) {
    // Another operator was quicker: its authority is the one.
    if (isAlreadyExists(error)) return { authority: await readAuthority(client, namespace), created: false };
    throw error;
  }
}

function authorityOf(secret: Secret, namespace: string): KeyPair {
  const cert = decode(secret, 'ca.crt');
  const key = decode(secret, 'ca.key');
  if (!cert || !key)
    throw new Error(`Secret ${namespace}/${secret.metadata.name}: expected ca.crt and ca.key`);
  return { cert, key };
}

async function isGood(secret: Secret, wanted: Wanted, authority: KeyPair, now: Date): Promise<boolean> {
  if (!Object.entries(managedBy).every(([name, value]) => secret.metadata.labels?.[name] === value))
    return true;
  try {
    const cert = decode(secret, 'tls.crt');
    const facts = await readCertificate(cert);
    const names = [...(wanted.dnsNames ?? []), ...(wanted.ipAddresses ?? [])];
    const lived = now.getTime() - facts.notBefore.getTime();
    return (
      decode(secret, 'tls.key') !== '' &&
      decode(secret, 'ca.crt') === authority.cert &&
      facts.commonName === wanted.commonName &&
      sameNames(facts.names, names) &&
      lived < ((facts.notAfter.getTime() - facts.notBefore.getTime()) * 2) / 3 &&
      (await isSignedBy(cert, authority.cert))
    );
  } catch {
    return false;
  }
}

/** Addresses are compared as text of one form: `::1` may be written in full. */
function sameNames(a: readonly string[], b: readonly string[]): boolean {
  const normal = (list: readonly string[]): string =>
    list
      .map(each => (each.includes(':') ? (URL.parse(`http://[${each}]`)?.hostname ?? each) : each))
      .sort()
      .join();
  return normal(a) === normal(b);
}

async function readSecret(client: KubeClient, namespace: string, name: string): Promise<Secret | undefined> {
  try {
    return await client.get(pathOf(resources.secrets, { namespace, name }), Secret);
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

async function writeSecret(
  client: KubeClient,
  namespace: string,
  name: string,
  type: string,
  values: Readonly<Record<string, string>>,
  present: Secret | undefined,
): Promise<void> {
  const data = Object.fromEntries(
    Object.entries(values).map(([key, value]) => [key, Buffer.from(value).toString('base64')]),
  );
  const metadata = { name, namespace, labels: managedBy };
  if (present) {
    const { resourceVersion } = present.metadata;
    const path = pathOf(resources.secrets, { namespace, name });
    await client.patch(path, 'merge', { metadata: { ...metadata, resourceVersion }, data });
  } else
    await client.create(pathOf(resources.secrets, { namespace }), {
      ...typeOf(resources.secrets),
      metadata,
      type,
      data,
    });
}

function decode(secret: Secret, key: string): string {
  return Buffer.from(secret.data?.[key] ?? '', 'base64').toString('utf8');
}
