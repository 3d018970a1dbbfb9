/** Network namespaces for tests that need a kernel: made by the test's own process, gone with it. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readlinkSync } from 'node:fs';
import { basename } from 'node:path';
import { test } from 'node:test';
import koffi from 'koffi';
import { errno, SystemCallError } from '../src/datapath/libc.ts';

const CLONE_NEWNET = 0x40000000;
const unshare: (flags: number) => number = koffi.load('libc.so.6').func('int unshare(int flags)');

/** Tests that need a kernel are skipped for users who cannot make a namespace. */
export const needsRoot = process.getuid?.() === 0 ? {} : { skip: 'needs root' };

/**
 * Moves this process's main thread, and so its netlink sockets, its /proc/sys/net and its children, to a
 * network namespace of its own. Call it before anything of the test touches the network. Threads that exist
 * already stay where they are: see `wholeProcessInFreshNetns`.
 */
export function enterFreshNetns(): void {
  if (unshare(CLONE_NEWNET) < 0) throw new SystemCallError('unshare network namespace', errno());
}

/**
 * For tests whose other threads must be in the namespace, too: true in a process that is in one of its own, from
 * its start. Elsewhere it registers one test that runs this same file in such a process.
 *
 *     if (wholeProcessInFreshNetns(import.meta.filename)) describe(…)
 */
export function wholeProcessInFreshNetns(file: string): boolean {
  if (process.env.ISTHMUS_TEST_NETNS === 'own') return true;
  test(`${basename(file)} in a network namespace of its own`, needsRoot, () => {
    const { NODE_TEST_CONTEXT: _, ...env } = process.env;
    execFileSync('unshare', ['--net', process.execPath, file], {
      env: { ...env, ISTHMUS_TEST_NETNS: 'own' },
      stdio: ['ignore', 'inherit', 'inherit'],
    });
  });
  return false;
}

/** A namespace such as a runtime makes for a pod; `path` is valid until it is disposed. */
export interface PodNetns extends AsyncDisposable {
  readonly path: string;
  readonly pid: number;
}

/** It holds up nobody: where a test fails before it disposes of it, it ends with the test's process. */
export async function podNetns(): Promise<PodNetns> {
  const own = readlinkSync('/proc/thread-self/ns/net');
  const child = spawn('unshare', ['-n', 'sh', '-c', 'echo ready; exec cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  await once(child.stdout, 'data');
  for (const each of [child, child.stdin, child.stdout]) if ('unref' in each) each.unref();
  const path = `/proc/${child.pid}/ns/net`;
  if (readlinkSync(path) === own) throw new Error('the pod namespace is the test’s own');
  return {
    path,
    pid: child.pid!,
    async [Symbol.asyncDispose]() {
      child.ref();
      const gone = once(child, 'exit');
      child.kill('SIGKILL');
      await gone;
    },
  };
}
