import { setTimeout as pause } from 'node:timers/promises';
import { type RotationStage, rotateOnce, stageOf } from '../clustermesh/authority-rotation.ts';
import { authoritySecret, sharedAuthoritySecret } from '../clustermesh/certificates.ts';
import { Failure } from '../failure.ts';
import type { KubeClient } from '../kube/client.ts';
import { Secret } from '../kube/objects.ts';
import { pathOf, resources } from '../kube/resource.ts';
import { restartDeployment } from '../kube/restart.ts';
import { isNotFound } from '../kube/status.ts';
import { type ClusterChoice, clientOf } from './kubeconfig.ts';
import { checkMeshIdentity, readMeshIdentity } from './mesh-access.ts';
import { connectClusters, connectedClusters } from './mesh-connect.ts';
import { isComplete, rolloutOf, Workload } from './rollout.ts';

export interface RotateOptions {
  readonly cluster: ClusterChoice;
  /** Every cluster that this one is connected with, by a context. */
  readonly others: readonly ClusterChoice[];
  /** Resolves when a cluster and its agents are in the mesh whole. @throws Failure when they do not get there */
  readonly whenWell: (cluster: ClusterChoice) => Promise<void>;
  readonly report: (line: string) => void;
}

const done: Readonly<Record<RotationStage, string>> = {
  settled: '🔑 A new CA is there and trusted; the old one signs still',
  announced: '🔑 The new CA signs; the old one is trusted still',
  changed: '🔑 The old CA is trusted no more',
};

/**
 * Gives a cluster a new CA while its mesh goes on. Before anything changes everybody has learnt of what comes: the new CA
 * is announced, then it signs, then the old one goes; in between all certificates are made anew and every pair is connected
 * again. What was interrupted is taken up where it was.
 * @throws Failure when the CA is one that was given, or a connected cluster is not among the others
 */
export async function rotateAuthority(options: RotateOptions): Promise<void> {
  const { cluster, others, whenWell, report } = options;
  const client = clientOf(cluster);
  try {
    const identity = await readMeshIdentity(client, cluster);
    checkMeshIdentity(identity, cluster.context);
    await checkOthers(cluster, others);
    let stage: RotationStage;
    do {
      const data = await readAuthorityData(client, cluster.namespace);
      stage = stageOf(data);
      const change = await rotateOnce(data, identity.name, new Date());
      await writeAuthorityData(client, cluster.namespace, change);
      report(done[stage]);
      await renew(client, cluster.namespace, change['ca.crt']!, report);
      // With each of them: they learn what is trusted now, and get certificates of the CA that signs now.
      await connectClusters({ local: cluster, destinations: others, report: () => undefined });
      report(`ℹ️  Connected again with ${others.map(each => each.context).join(', ')}`);
      for (const each of [cluster, ...others]) await whenWell(each);
    } while (stage !== 'changed');
    report(`✅ ${identity.name} has a new CA`);
  } finally {
    client.close();
  }
}

async function checkOthers(cluster: ClusterChoice, others: readonly ClusterChoice[]): Promise<void> {
  const given = await Promise.all(
    others.map(async other => {
      const client = clientOf(other);
      try {
        return (await readMeshIdentity(client, other)).name;
      } finally {
        client.close();
      }
    }),
  );
  const missing = (await connectedClusters(cluster)).filter(name => !given.includes(name));
  if (missing.length)
    throw new Failure(
      `this cluster is connected with ${missing.join(', ')}, too, which would be left behind`,
      {
        hint: 'name every connected cluster with --destination-context, or disconnect it first',
        exitCode: 2,
      },
    );
}

async function readAuthorityData(
  client: KubeClient,
  namespace: string,
): Promise<Readonly<Record<string, string>>> {
  const read = async (name: string): Promise<Secret | undefined> => {
    try {
      return await client.get(pathOf(resources.secrets, { namespace, name }), Secret);
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  };
  if (await read(sharedAuthoritySecret))
    throw new Failure(
      `the CA of this cluster was given to it, in the Secret ${namespace}/${sharedAuthoritySecret}`,
      {
        hint: 'put a new one there in every cluster that has it',
      },
    );
  const secret = await read(authoritySecret);
  if (!secret)
    throw new Failure(`Secret ${namespace}/${authoritySecret}: found none, expected the cluster’s CA`);
  return Object.fromEntries(
    Object.entries(secret.data ?? {}).map(([key, value]) => [
      key,
      Buffer.from(value ?? '', 'base64').toString('utf8'),
    ]),
  );
}

async function writeAuthorityData(
  client: KubeClient,
  namespace: string,
  change: Readonly<Record<string, string | undefined>>,
): Promise<void> {
  const data = Object.fromEntries(
    Object.entries(change).map(([key, value]) => [
      key,
      value === undefined ? null : Buffer.from(value).toString('base64'),
    ]),
  );
  await client.patch(pathOf(resources.secrets, { namespace, name: authoritySecret }), 'merge', { data });
}

/** Secrets that the operator makes anew when the CA is another one; those that are somebody's own it leaves alone. */
const certificates = [
  'clustermesh-apiserver-server-cert',
  'clustermesh-apiserver-admin-cert',
  'clustermesh-apiserver-local-cert',
];

/** Has the operator sign anew, and the mesh etcd, which reads whom it trusts when it starts, start anew. */
async function renew(
  client: KubeClient,
  namespace: string,
  ca: string,
  report: (line: string) => void,
): Promise<void> {
  await restartDeployment(client, { namespace, name: 'isthmus-operator' });
  await until('certificates of the new CA', async () => {
    for (const name of certificates) {
      const { data, metadata } = await client.get(pathOf(resources.secrets, { namespace, name }), Secret);
      const isOurs = metadata.labels?.['app.kubernetes.io/managed-by'] === 'isthmus-operator';
      if (isOurs && Buffer.from(data?.['ca.crt'] ?? '', 'base64').toString('utf8') !== ca) return false;
    }
    return true;
  });
  report('ℹ️  Certificates are new');
  const apiserver = { namespace, name: 'clustermesh-apiserver' };
  await restartDeployment(client, apiserver);
  await until(apiserver.name, async () => {
    const workload = await client.get(pathOf(resources.deployments, apiserver), Workload);
    return isComplete(rolloutOf('Deployment', workload));
  });
  report('ℹ️  clustermesh-apiserver is new');
}

async function until(what: string, check: () => Promise<boolean>): Promise<void> {
  const end = performance.now() + 180_000;
  while (!(await check())) {
    if (performance.now() > end)
      throw new Failure(`${what}: not there after 3 minutes`, {
        hint: 'repeat the command when it is: it goes on from here',
      });
    await pause(300);
  }
}
