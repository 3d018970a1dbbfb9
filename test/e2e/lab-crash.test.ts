/** A lab that is killed while it comes up leaves nothing behind, and comes up the next time. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { cacheFolder } from '../../src/cache.ts';
import { isthmus, isthmusOk } from './mesh.ts';

const lab = 'crash';
const folder = mkdtempSync(join(tmpdir(), 'isthmus-lab-crash-'));
const kubeconfig = join(folder, 'kubeconfig');
const config = join(folder, 'kind.yaml');
writeFileSync(
  config,
  'apiVersion: kind.x-k8s.io/v1alpha4\nkind: Cluster\nname: solo\nnetworking: {disableDefaultCNI: true}\n',
);
const options = ['--kubeconfig', kubeconfig, 'lab', 'up', '--name', lab, '-f', config, '-v'];

after(async () => {
  await isthmus('lab', 'down', '--name', lab);
  rmSync(folder, { recursive: true });
});

for (const moment of ['Starting', 'disks', 'nodes booted', 'API server ready']) {
  test(`killed at "${moment}"`, async () => {
    await killedAt(moment);
    await isthmusOk('lab', 'down', '--name', lab);
    assert.deepEqual(leftovers(), []);
  });
}

test('up after a crash just works', async () => {
  await killedAt('nodes booted');
  await isthmusOk(...options);
  assert.match(readFileSync(kubeconfig, 'utf8'), /isthmus-solo/);
  await isthmusOk('lab', 'down', '--name', lab);
  assert.deepEqual(leftovers(), []);
});

/** Starts a lab and kills the command with SIGKILL as soon as it has said `moment`. */
function killedAt(moment: string): Promise<void> {
  const child = spawn(join(import.meta.dirname, '../../bin/isthmus'), options, {
    stdio: ['ignore', 'ignore', 'pipe'],
    detached: true,
  });
  let said = '';
  return new Promise((resolve, reject) => {
    child.stderr.on('data', (chunk: Buffer) => {
      said += chunk;
      // The whole group: the launcher and what it launched.
      if (said.includes(moment) && child.exitCode === null) process.kill(-child.pid!, 'SIGKILL');
    });
    child.once('error', reject);
    child.once('close', (_code, signal) => {
      if (signal === 'SIGKILL') resolve();
      else reject(new Error(`lab up ended before "${moment}":\n${said}`));
    });
  });
}

/** Whatever on this machine still carries the lab's name. */
function leftovers(): string[] {
  const list = (path: string): string[] => (existsSync(path) ? readdirSync(path) : []);
  const processes = list('/proc').filter(pid => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      // One that has ended and only waits for this machine's init to notice holds nothing any more.
      const ended = /^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
      return !ended && readFileSync(`/proc/${pid}/cgroup`, 'utf8').includes(`/isthmus-lab/${lab}`);
    } catch {
      return false;
    }
  });
  const hierarchies = ['', ...list('/sys/fs/cgroup')].map(each =>
    join('/sys/fs/cgroup', each, 'isthmus-lab', lab),
  );
  return [
    ...processes.map(pid => `process ${pid}`),
    ...hierarchies.filter(each => existsSync(each)),
    ...list('/run/netns').filter(each => each.startsWith(`isthmus.${lab}.`)),
    ...list('/sys/class/net').filter(each => each === `lab-${lab}`),
    ...[`/run/isthmus-lab/${lab}`, `/run/isthmus-lab/${lab}.lock`, cacheFolder('labs', lab)].filter(each =>
      existsSync(each),
    ),
    ...readFileSync('/proc/mounts', 'utf8')
      .split('\n')
      .filter(line => line.includes(`/labs/${lab}/`)),
    ...(existsSync(kubeconfig) && readFileSync(kubeconfig, 'utf8').includes('solo') ? [kubeconfig] : []),
  ];
}
