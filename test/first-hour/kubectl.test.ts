/** What somebody does with kubectl in the first hour on a cluster. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { ensureBinaries } from '../../src/lab/binaries.ts';
import {
  type ClusterOfTest,
  eventually,
  mesh,
  namespace,
  ready,
  serverPod,
  serviceFor,
} from '../e2e/mesh.ts';

let us: ClusterOfTest;
let ns: Awaited<ReturnType<typeof namespace>>;
let kubectl: string;

before(async () => {
  ({ us } = await mesh());
  ({ kubectl } = await ensureBinaries(['kubectl'], { report: line => console.error(line) }));
  ns = await namespace('first-hour-kubectl');
  await us.apply(serverPod('web', { node: 'us-worker' }), ns.name);
  await us.apply(serviceFor('web'), ns.name);
  await ready(us, ns.name, 'web');
});
after(() => ns?.[Symbol.asyncDispose]());

const context = ['--context', 'isthmus-us'];

test('exec with a terminal', async () => {
  const out = await us.kubectl('-n', ns.name, 'exec', 'web', '--', 'sh', '-c', 'echo from $HOSTNAME');
  assert.equal(out.trim(), 'from web');
  const child = spawn('script', [
    '-qec',
    `${kubectl} ${context.join(' ')} -n ${ns.name} exec -it web -- sh -c 'tty && stty size'`,
    '/dev/null',
  ]);
  let seen = '';
  child.stdout.on('data', (chunk: Buffer) => (seen += chunk));
  const code = await new Promise(resolve => child.once('close', resolve));
  assert.equal(code, 0, seen);
  assert.match(seen, /\/dev\/pts\/\d+/);
});

test('logs -f shows a line written later', async () => {
  const child = spawn(kubectl, [...context, '-n', ns.name, 'logs', '-f', 'web']);
  let seen = '';
  child.stdout.on('data', (chunk: Buffer) => (seen += chunk));
  try {
    await us.sh(ns.name, 'web', 'wget -qO- http://127.0.0.1:8080/echo?msg=a-later-line');
    await eventually('the line in the followed log', async () => seen.includes('a-later-line'), 10);
  } finally {
    child.kill();
  }
});

test('port-forward to a pod and to a service', async () => {
  for (const [target, port] of [
    ['pod/web', '8080'],
    ['service/web', '80'],
  ] as const) {
    const child = spawn(kubectl, [...context, '-n', ns.name, 'port-forward', target, `:${port}`]);
    try {
      const local = await new Promise<string>((resolve, reject) => {
        let said = '';
        const hear = (chunk: Buffer) => {
          said += chunk;
          const found = /127\.0\.0\.1:(\d+)/.exec(said);
          if (found) resolve(found[1]!);
        };
        child.stdout.on('data', hear);
        child.stderr.on('data', hear);
        child.once('close', () => reject(new Error(said)));
      });
      const answer = await fetch(`http://127.0.0.1:${local}/hostname`);
      assert.equal(await answer.text(), 'web', target);
    } finally {
      child.kill();
    }
  }
});

test('cp into a pod and out of it', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'isthmus-cp-'));
  writeFileSync(join(folder, 'in'), 'carried\n');
  await us.kubectl('cp', join(folder, 'in'), `${ns.name}/web:/tmp/carried`);
  await us.kubectl('cp', `${ns.name}/web:/tmp/carried`, join(folder, 'out'));
  assert.equal(readFileSync(join(folder, 'out'), 'utf8'), 'carried\n');
});

test('the API server proxies to a service and to a pod', async () => {
  for (const path of ['services/http:web:http/proxy/hostname', 'pods/web:8080/proxy/hostname'])
    assert.equal(await us.kubectl('get', '--raw', `/api/v1/namespaces/${ns.name}/${path}`), 'web');
});

test('httpGet, tcp, grpc and exec probes make a pod Ready', async () => {
  const image = 'registry.k8s.io/e2e-test-images/agnhost:2.57';
  const pod = (name: string, args: string[], probe: object) =>
    JSON.stringify({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name },
      spec: {
        nodeName: 'us-worker2',
        terminationGracePeriodSeconds: 1,
        containers: [
          {
            name: 'c',
            image,
            imagePullPolicy: 'IfNotPresent',
            args,
            readinessProbe: { periodSeconds: 1, ...probe },
            livenessProbe: { periodSeconds: 1, ...probe },
          },
        ],
      },
    });
  await us.apply(pod('probe-http', ['netexec'], { httpGet: { path: '/healthz', port: 8080 } }), ns.name);
  await us.apply(pod('probe-tcp', ['netexec'], { tcpSocket: { port: 8080 } }), ns.name);
  await us.apply(pod('probe-grpc', ['grpc-health-checking'], { grpc: { port: 5000 } }), ns.name);
  await us.apply(pod('probe-exec', ['netexec'], { exec: { command: ['true'] } }), ns.name);
  const names = ['probe-http', 'probe-tcp', 'probe-grpc', 'probe-exec'];
  await ready(us, ns.name, ...names);
  for (const name of names)
    assert.equal(
      await us.kubectl(
        '-n',
        ns.name,
        'get',
        'pod',
        name,
        '-o',
        'jsonpath={.status.containerStatuses[0].restartCount}',
      ),
      '0',
      name,
    );
});
