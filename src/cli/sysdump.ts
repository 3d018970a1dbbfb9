import { createWriteStream } from 'node:fs';
import { rm } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import type { Command } from 'commander';
import { stringify } from 'yaml';
import * as z from 'zod';
import type { KubeClient } from '../kube/client.ts';
import { pathOf, type Resource, resources } from '../kube/resource.ts';
import { isNotFound } from '../kube/status.ts';
import { version } from '../version.ts';
import { askAgent, askApiserver } from './ask-pod.ts';
import { clusterStatus } from './cluster-status.ts';
import { type IsthmusPod, isthmusPods } from './isthmus-pods.ts';
import { type ClusterChoice, chooseCluster, clientOf } from './kubeconfig.ts';
import { redactObject, redactText } from './redact.ts';
import { statusText } from './status-text.ts';

/** One file of the archive. */
export interface DumpFile {
  /** Below the archive's folder. */
  readonly path: string;
  readonly text: string;
}

/** Part of a log that is kept, the newest, in bytes. */
const LOG_LIMIT = 10 * 2 ** 20;
/** Requests to nodes and the API server under way at once. */
const AT_ONCE = 4;
/** Milliseconds for one of them. */
const PATIENCE = 120_000;

const workloads = (plural: string, kind: string): Resource => ({
  group: 'apps',
  version: 'v1',
  plural,
  kind,
  namespaced: true,
});

/** Objects of all namespaces. Never among them: Secrets, and ConfigMaps that are not ours. */
const clusterWide: Readonly<Record<string, Resource>> = {
  nodes: resources.nodes,
  namespaces: resources.namespaces,
  services: resources.services,
  endpointslices: resources.endpointSlices,
  ciliumnodes: resources.ciliumNodes,
  ciliumidentities: resources.ciliumIdentities,
  ciliumendpoints: resources.ciliumEndpoints,
  ciliumloadbalancerippools: resources.loadBalancerIPPools,
  ciliuml2announcementpolicies: resources.l2AnnouncementPolicies,
  networkpolicies: {
    group: 'networking.k8s.io',
    version: 'v1',
    plural: 'networkpolicies',
    kind: 'NetworkPolicy',
    namespaced: true,
  },
};

/** Objects of the namespace Isthmus is in. */
const ofNamespace: Readonly<Record<string, Resource>> = {
  daemonsets: workloads('daemonsets', 'DaemonSet'),
  deployments: workloads('deployments', 'Deployment'),
  events: resources.events,
  leases: resources.leases,
};

/** `isthmus sysdump`. */
export function register(program: Command): void {
  program
    .command('sysdump')
    .description('Collect everything about a cluster that a bug report needs into one archive; no secrets')
    .option('--output-filename <file>', 'the archive (default: isthmus-sysdump-<cluster>-<time>.tar.gz)')
    .action(async (flags: { outputFilename?: string }, command: Command) => {
      const cluster = chooseCluster(command);
      const report = (line: string): void => void process.stderr.write(`${line}\n`);
      const client = clientOf(cluster);
      try {
        const status = await clusterStatus(client, cluster);
        const time = new Date().toISOString().replace(/[:.]/g, '').slice(0, 15);
        const folder = `isthmus-sysdump-${status.cluster.name}-${time}`;
        const file = flags.outputFilename ?? `${folder}.tar.gz`;
        const failures: string[] = [];
        report(`🔍 Collecting from cluster ${status.cluster.name} (context ${cluster.context})`);
        const first = { path: 'status.txt', text: statusText(status) };
        const files = (async function* () {
          yield first;
          yield { path: 'status.json', text: `${JSON.stringify(status, null, 2)}\n` };
          yield* collect(client, cluster, failure => {
            failures.push(failure);
            report(`⚠️  ${failure}`);
          });
          yield { path: 'sysdump.txt', text: account(cluster, failures) };
        })();
        const count = await writeArchive(file, folder, files);
        report(`✅ ${count} files, without secrets, in ${file}`);
      } finally {
        client.close();
      }
    });
}

function account({ context, namespace }: ClusterChoice, failures: readonly string[]): string {
  const head = `isthmus ${version} sysdump of ${new Date().toISOString()}\ncontext ${context}, namespace ${namespace}\n`;
  return failures.length ? `${head}\ncould not be collected:\n${failures.join('\n')}\n` : head;
}

interface Part {
  /** What it is, for the note that it is missing. */
  readonly what: string;
  /** Undefined: there is none, and that is no failure. */
  readonly read: () => Promise<DumpFile | undefined>;
}

/** Files one after another, a few of them read ahead. A part that fails is told and left out; the rest goes on. */
async function* collect(
  client: KubeClient,
  cluster: ClusterChoice,
  onFailure: (failure: string) => void,
): AsyncGenerator<DumpFile> {
  const pods = await isthmusPods(client, cluster.namespace);
  const parts: Part[] = [...objectParts(client, cluster.namespace)];
  for (const pod of pods) {
    // A pod that no node has taken has no log yet.
    if (pod.node) parts.push(...logParts(client, pod));
    if (!pod.running) continue;
    if (pod.component === 'isthmus-agent') parts.push(...(await agentParts(cluster, pod, onFailure)));
    if (pod.component === 'clustermesh-apiserver')
      parts.push(
        commandPart(pod, `etcd/${pod.name}.jsonl`, 'state', () =>
          askApiserver({ cluster, pod, timeout: PATIENCE }, 'state'),
        ),
      );
  }
  const start = (part: Part): Promise<DumpFile | undefined> =>
    part.read().catch((error: unknown) => {
      onFailure(`${part.what}: ${error instanceof Error ? error.message : error}`);
      return undefined;
    });
  const ahead: Promise<DumpFile | undefined>[] = [];
  for (const part of parts) {
    ahead.push(start(part));
    if (ahead.length < AT_ONCE) continue;
    const file = await ahead.shift();
    if (file) yield file;
  }
  for (const each of ahead) {
    const file = await each;
    if (file) yield file;
  }
}

const List = z.looseObject({ items: z.array(z.unknown()).nullish() });

function* objectParts(client: KubeClient, namespace: string): Generator<Part> {
  const list = (name: string, path: string, toObject: (object: unknown) => unknown = redactObject): Part => ({
    what: `objects ${name}`,
    async read() {
      try {
        const { items } = await client.get(path, List, { timeout: PATIENCE });
        return { path: `objects/${name}.yaml`, text: stringify((items ?? []).map(toObject)) };
      } catch (error) {
        // A kind that this version of the cluster does not have.
        if (isNotFound(error)) return undefined;
        throw error;
      }
    },
  });
  for (const [name, resource] of Object.entries(clusterWide)) yield list(name, pathOf(resource));
  for (const [name, resource] of Object.entries(ofNamespace))
    yield list(name, pathOf(resource, { namespace }));
  yield list('pods', pathOf(resources.pods), shortPod);
  yield {
    what: 'objects isthmus-config',
    async read() {
      const path = pathOf(resources.configMaps, { namespace, name: 'isthmus-config' });
      const object = await client.get(path, z.looseObject({}));
      return { path: 'objects/isthmus-config.yaml', text: stringify(redactObject(object)) };
    },
  };
}

const SomePod = z.object({
  metadata: z.looseObject({ name: z.string(), labels: z.unknown() }),
  spec: z.looseObject({ nodeName: z.string().optional(), hostNetwork: z.boolean().optional() }),
  status: z.unknown(),
});

/** Of a pod only where and how it runs: its containers' commands and environment are its owner's. */
function shortPod(object: unknown): unknown {
  const { metadata, spec, status } = SomePod.parse(object);
  const { annotations: _, ...named } = metadata;
  const { nodeName, hostNetwork, serviceAccountName } = spec;
  return redactObject({ metadata: named, spec: { nodeName, hostNetwork, serviceAccountName }, status });
}

function* logParts(client: KubeClient, pod: IsthmusPod): Generator<Part> {
  const path = `${pathOf(resources.pods, { namespace: pod.namespace, name: pod.name })}/log`;
  for (const container of pod.containers)
    for (const previous of [false, true]) {
      const name = `${pod.name}-${container}${previous ? '-previous' : ''}`;
      yield {
        what: `log of ${name}`,
        async read() {
          const query = { container, previous, limitBytes: LOG_LIMIT, timestamps: true };
          try {
            const stream = await client.stream(path, { query });
            const chunks: Buffer[] = [];
            for await (const chunk of stream as AsyncIterable<Buffer>) chunks.push(chunk);
            return { path: `logs/${name}.log`, text: redactText(Buffer.concat(chunks).toString()) };
          } catch (error) {
            // Most containers have never been started twice.
            if (previous) return undefined;
            throw error;
          }
        },
      };
    }
}

const agentViews = ['status', 'endpoints', 'endpoint-log', 'services', 'ipcache', 'nodes'] as const;

async function agentParts(
  cluster: ClusterChoice,
  pod: IsthmusPod,
  onFailure: (failure: string) => void,
): Promise<Part[]> {
  const part = (path: string, ...args: string[]): Part =>
    commandPart(pod, `nodes/${pod.node}/${path}`, `isthmus agent ${args.join(' ')}`, () =>
      askAgent({ cluster, pod, timeout: PATIENCE }, 'agent', ...args),
    );
  const parts = [
    ...agentViews.map(view => part(`${view}.json`, view, '-o', 'json')),
    part('metrics.txt', 'metrics'),
  ];
  try {
    const names = await askAgent({ cluster, pod, timeout: PATIENCE }, 'agent', 'map');
    for (const name of names.split('\n').filter(Boolean)) parts.push(part(`maps/${name}.jsonl`, 'map', name));
  } catch (error) {
    onFailure(`maps of node ${pod.node}: ${error instanceof Error ? error.message : error}`);
  }
  return parts;
}

/** What a command in a pod prints. */
function commandPart(pod: IsthmusPod, path: string, command: string, ask: () => Promise<string>): Part {
  return {
    what: `${path} (${command} in ${pod.name})`,
    async read() {
      return { path, text: redactText(await ask()) };
    },
  };
}

/** Writes a .tar.gz as the files come; resolves to their number. What is half written is removed. */
export async function writeArchive(
  file: string,
  folder: string,
  files: AsyncIterable<DumpFile>,
): Promise<number> {
  const { pack } = await import('tar-stream');
  const archive = pack();
  let count = 0;
  const fill = async (): Promise<void> => {
    for await (const { path, text } of files) {
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      archive.entry({ name: `${folder}/${path}`, mode: 0o644, mtime: new Date() }, text, error =>
        error ? reject(error) : resolve(),
      );
      await promise;
      count++;
    }
    archive.finalize();
  };
  try {
    await Promise.all([
      fill().catch((error: unknown) => {
        archive.destroy(error instanceof Error ? error : new Error(String(error)));
        throw error;
      }),
      // It may name people's pods and addresses: nobody else's business.
      pipeline(archive, createGzip(), createWriteStream(file, { mode: 0o600 })),
    ]);
    return count;
  } catch (error) {
    await rm(file, { force: true });
    throw error;
  }
}
