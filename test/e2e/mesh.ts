/**
 * The clusters the end-to-end tests share: us and eu of one lab, joined, brought up and taken down by test/e2e/run,
 * or brought up by a test file that is run alone. Tests act as a user does: by kubectl and isthmus.
 */
import { execFile, spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import { parse } from 'yaml';
import * as z from 'zod';
import { ensureBinaries } from '../../src/lab/binaries.ts';

const run = promisify(execFile);
const root = join(import.meta.dirname, '../..');
export const labName = process.env.ISTHMUS_TEST_LAB ?? 'e2e';
const logs = process.env.ISTHMUS_TEST_LOGS ?? join(root, 'build/test-logs');
process.env.KUBECONFIG ??= `/tmp/isthmus-${labName}.kubeconfig`;

/** What the run's clusters are: ISTHMUS_TEST_FAMILY is kind's ipFamily. */
const ipFamily = z.enum(['ipv4', 'dual', 'ipv6']).parse(process.env.ISTHMUS_TEST_FAMILY || 'ipv4');
export type Family = 4 | 6;
/** Families of the pods, the one that Kubernetes calls primary first. */
export const families: readonly Family[] = { ipv4: [4 as const], dual: [4, 6] as const, ipv6: [6 as const] }[
  ipFamily
];
/** An address as a URL has it. */
export const inUrl = (address: string): string => (address.includes(':') ? `[${address}]` : address);
/** Of a list that Kubernetes gives, the address of a family. */
const ofFamily = (addresses: string, family: Family): string | undefined =>
  addresses.split(/\s+/).find(each => isIP(each) === family);

export interface Output {
  readonly stdout: string;
  readonly stderr: string;
  readonly code: number;
}

export interface ClusterOfTest {
  readonly name: string;
  /** Rejects with kubectl's words when it fails. */
  kubectl(...args: string[]): Promise<string>;
  /** Resolves also when the command fails. */
  tryKubectl(...args: string[]): Promise<Output>;
  apply(manifest: string, namespace?: string): Promise<void>;
  /** Runs a shell line in a pod (or deploy/…); rejects when it ends non-zero. */
  sh(namespace: string, pod: string, line: string): Promise<string>;
  trySh(namespace: string, pod: string, line: string): Promise<Output>;
  /** Runs a command in a node's namespaces, as a process of that machine. */
  onNode(node: string, line: string): Promise<string>;
  json<T>(schema: z.ZodType<T>, ...args: string[]): Promise<T>;
}

let started: Promise<{ us: ClusterOfTest; eu: ClusterOfTest }> | undefined;

/** The two clusters, Ready and joined. */
export function mesh(): Promise<{ us: ClusterOfTest; eu: ClusterOfTest }> {
  started ??= up();
  return started;
}

/** Runs the command line as a user would; resolves also when it fails. */
export function isthmus(...args: string[]): Promise<Output> {
  return outcome(join(root, 'bin/isthmus'), args);
}

/** Like isthmus(), but rejects with what the command printed when it fails. */
export async function isthmusOk(...args: string[]): Promise<string> {
  const result = await isthmus(...args);
  if (result.code !== 0)
    throw new Error(`isthmus ${args.join(' ')} ended with ${result.code}:\n${result.stdout}${result.stderr}`);
  return result.stdout;
}

/** Waits until `check` returns something other than false or undefined; the last reason is in the error. */
export async function eventually<T>(
  what: string,
  check: () => Promise<T | false | undefined>,
  seconds = 30,
): Promise<T> {
  const until = performance.now() + seconds * 1000;
  let reason = '';
  while (performance.now() < until) {
    try {
      const result = await check();
      if (result !== false && result !== undefined) return result;
      reason = 'it was not so';
    } catch (error) {
      reason = error instanceof Error ? error.message : String(error);
    }
    await pause(100);
  }
  throw new Error(`${what}: not within ${seconds} s: ${reason}`);
}

/** An agnhost pod that serves its name over HTTP on 8080 and UDP on 8081. */
export function serverPod(
  name: string,
  options: { node?: string; labels?: Record<string, string>; hostNetwork?: boolean } = {},
): string {
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, labels: { app: name, ...options.labels } },
    spec: {
      ...(options.node ? { nodeName: options.node } : {}),
      ...(options.hostNetwork ? { hostNetwork: true } : {}),
      terminationGracePeriodSeconds: 1,
      tolerations: [{ operator: 'Exists' }],
      containers: [
        {
          name: 'server',
          image: 'registry.k8s.io/e2e-test-images/agnhost:2.57',
          imagePullPolicy: 'IfNotPresent',
          args: ['netexec', '--http-port=8080', '--udp-port=8081'],
          readinessProbe: { httpGet: { path: '/healthz', port: 8080 }, periodSeconds: 1 },
        },
      ],
    },
  });
}

/** A service in front of the pods with this app label: HTTP on 80, UDP on 81. */
export function serviceFor(
  app: string,
  options: { name?: string; type?: string; annotations?: Record<string, string> } = {},
): string {
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: options.name ?? app, annotations: options.annotations ?? {} },
    spec: {
      type: options.type ?? 'ClusterIP',
      ipFamilyPolicy: 'PreferDualStack',
      selector: { app },
      ports: [
        { name: 'http', port: 80, targetPort: 8080 },
        { name: 'udp', port: 81, targetPort: 8081, protocol: 'UDP' },
      ],
    },
  });
}

/** A namespace of its own for a test file, on both clusters; gone afterwards. */
export async function namespace(
  name: string,
): Promise<{ name: string; [Symbol.asyncDispose](): Promise<void> }> {
  const { us, eu } = await mesh();
  await Promise.all(
    [us, eu].map(async each => {
      await each.apply(JSON.stringify({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } }));
      await eventually(`default ServiceAccount of ${name} in ${each.name}`, async () => {
        await each.kubectl('-n', name, 'get', 'serviceaccount', 'default');
        return true;
      });
    }),
  );
  return {
    name,
    async [Symbol.asyncDispose]() {
      for (const each of [us, eu]) {
        // Ports of a node are shared: until these are gone the next file's would answer for them, or they for it.
        const ofNodes = ['pod', '--field-selector=spec.hostNetwork=true', '--wait=true'];
        await each.tryKubectl('-n', name, 'delete', ...ofNodes);
        await each.tryKubectl('delete', 'namespace', name, '--wait=false');
      }
    },
  };
}

export interface Asking {
  /** Default http://web/hostname. */
  readonly url?: string;
  /** Requests. Default 20. */
  readonly times?: number;
  /** Seconds a request may take. Default 2. */
  readonly patience?: number;
}

/** Who answers the requests of a pod: names sorted, each once, e.g. `eu-web us-web`; `failed` where one had no answer. */
export async function answered(
  from: ClusterOfTest,
  ns: string,
  pod: string,
  { url = 'http://web/hostname', times = 20, patience = 2 }: Asking = {},
): Promise<string> {
  const line = `for i in $(seq ${times}); do curl -s -m ${patience} ${url} || printf failed; echo; done`;
  const out = await from.sh(ns, pod, line);
  return [...new Set(out.trim().split('\n'))].sort().join(' ');
}

/** Waits until a pod's requests are answered by exactly these, e.g. `eu-web us-web`. */
export function answersCome(
  from: ClusterOfTest,
  ns: string,
  pod: string,
  expected: string,
  { seconds = 10, ...asking }: Asking & { readonly seconds?: number } = {},
): Promise<true> {
  return eventually(
    `answers in ${from.name} come from ${expected}`,
    async () => {
      const seen = await answered(from, ns, pod, asking);
      if (seen !== expected) throw new Error(`they came from ${seen}`);
      return true as const;
    },
    seconds,
  );
}

/**
 * A shell line by which a pod asks a serverPod by UDP, and prints the answer. (nc would wait on after it, and may end
 * before it has read a question that comes by a pipe.)
 */
export function udpQuestion(host: string, port: number | string, question = 'hostname'): string {
  return `bash -c 'exec 3<>/dev/udp/${host}/${port}; echo ${question} >&3; timeout 5 dd bs=1500 count=1 <&3 2>/dev/null'`;
}

/** What a serverPod says by UDP, asked from this machine; asks again every half second, since a datagram may be lost. */
export async function askUdp(host: string, port: number, question = 'hostname'): Promise<string> {
  const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4');
  const ask = (): void => socket.send(question, port, host);
  const timer = setInterval(ask, 500);
  try {
    const answer = once(socket, 'message', { signal: AbortSignal.timeout(5000) });
    ask();
    const [message] = await answer;
    return String(message).trim();
  } finally {
    clearInterval(timer);
    socket.close();
  }
}

export async function podAddress(
  cluster: ClusterOfTest,
  ns: string,
  pod: string,
  family = families[0]!,
): Promise<string> {
  return eventually(`address of ${ns}/${pod} in ${cluster.name}`, async () =>
    ofFamily(
      await cluster.kubectl('-n', ns, 'get', 'pod', pod, '-o', 'jsonpath={.status.podIPs[*].ip}'),
      family,
    ),
  );
}

export async function nodeAddress(
  cluster: ClusterOfTest,
  node: string,
  family = families[0]!,
): Promise<string> {
  const internal = 'jsonpath={.status.addresses[?(@.type=="InternalIP")].address}';
  const found = ofFamily(await cluster.kubectl('get', 'node', node, '-o', internal), family);
  if (!found) throw new Error(`node ${node} has no IPv${family} address`);
  return found;
}

export async function clusterAddress(
  cluster: ClusterOfTest,
  ns: string,
  service: string,
  family = families[0]!,
): Promise<string> {
  const addresses = 'jsonpath={.spec.clusterIPs[*]}';
  const found = ofFamily(await cluster.kubectl('-n', ns, 'get', 'service', service, '-o', addresses), family);
  if (!found) throw new Error(`service ${ns}/${service} has no IPv${family} address`);
  return found;
}

const RunningPods = z.object({
  items: z.array(
    z.object({
      spec: z.object({ hostNetwork: z.boolean().default(false) }),
      status: z.object({ podIP: z.string().optional() }),
    }),
  ),
});

/** The addresses of all running pods of a cluster that are in the pod network. (kubectl's JSONPath cannot ask for that.) */
export async function podAddresses(cluster: ClusterOfTest): Promise<string[]> {
  const running = ['--field-selector', 'status.phase=Running'];
  const { items } = await cluster.json(RunningPods, 'get', 'pods', '-A', ...running);
  return items.flatMap(({ spec, status }) => (spec.hostNetwork || !status.podIP ? [] : [status.podIP]));
}

export async function ready(cluster: ClusterOfTest, ns: string, ...pods: string[]): Promise<void> {
  await cluster.kubectl(
    '-n',
    ns,
    'wait',
    '--for=condition=Ready',
    '--timeout=180s',
    ...pods.map(each => `pod/${each}`),
  );
}

async function up(): Promise<{ us: ClusterOfTest; eu: ClusterOfTest }> {
  mkdirSync(logs, { recursive: true });
  const { kubectl } = await ensureBinaries(['kubectl'], { report: line => console.error(line) });
  // ISTHMUS_TEST_ATTACH: test/e2e/run, or the developer, has the lab up already.
  if (!process.env.ISTHMUS_TEST_ATTACH) {
    const file = ipFamily === 'ipv4' ? [] : ['-f', join(root, `test/e2e/${ipFamily}.yaml`)];
    const lab = await outcome(join(root, 'bin/isthmus'), ['lab', 'up', '--name', labName, '--join', ...file]);
    writeFileSync(join(logs, 'lab-up.log'), lab.stdout + lab.stderr);
    if (lab.code !== 0) throw new Error(`lab up failed:\n${lab.stdout}${lab.stderr}`);
  }
  return { us: clusterOf('us', kubectl), eu: clusterOf('eu', kubectl) };
}

function clusterOf(name: string, binary: string): ClusterOfTest {
  const context = ['--context', `isthmus-${name}`];
  const tryKubectl = (...args: string[]): Promise<Output> => outcome(binary, [...context, ...args]);
  const kubectl = async (...args: string[]): Promise<string> => {
    const result = await tryKubectl(...args);
    if (result.code !== 0)
      throw new Error(
        `kubectl ${[...context, ...args].join(' ')} ended with ${result.code}: ${result.stderr || result.stdout}`,
      );
    return result.stdout;
  };
  return {
    name,
    kubectl,
    tryKubectl,
    apply: (manifest, ns) =>
      feed(binary, [...context, ...(ns ? ['-n', ns] : []), 'apply', '-f', '-'], manifest),
    sh: (ns, pod, line) => kubectl('-n', ns, 'exec', pod, '--', 'sh', '-c', line),
    trySh: (ns, pod, line) => tryKubectl('-n', ns, 'exec', pod, '--', 'sh', '-c', line),
    onNode: (node, line) =>
      isthmusOk('lab', 'shell', '--name', labName, `${name}/${node}`, '--', 'sh', '-c', line),
    json: async (schema, ...args) => schema.parse(parse(await kubectl(...args, '-o', 'json'))),
  };
}

async function outcome(file: string, args: readonly string[]): Promise<Output> {
  try {
    const { stdout, stderr } = await run(file, args, { maxBuffer: 64 << 20 });
    return { stdout, stderr, code: 0 };
  } catch (error) {
    const failed = z.object({
      stdout: z.string(),
      stderr: z.string(),
      code: z.union([z.number(), z.string(), z.null()]),
    });
    const { stdout, stderr, code } = failed.parse(error);
    return { stdout, stderr, code: typeof code === 'number' ? code : 1 };
  }
}

function feed(file: string, args: readonly string[], stdin: string): Promise<void> {
  const child = spawn(file, args, { stdio: ['pipe', 'pipe', 'pipe'] });
  let said = '';
  child.stdout.on('data', (chunk: Buffer) => (said += chunk));
  child.stderr.on('data', (chunk: Buffer) => (said += chunk));
  child.stdin.end(stdin);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  child.once('error', reject);
  child.once('close', code =>
    code === 0 ? resolve() : reject(new Error(`kubectl ${args.join(' ')}: ${said}`)),
  );
  return promise;
}
