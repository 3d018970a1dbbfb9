import { execFile } from 'node:child_process';
import { chmod, readdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import * as z from 'zod';
import type { Report } from './binaries.ts';

/**
 * Go from 1.21 on reads in a go.mod which release it asks for, and gets that (https://go.dev/doc/toolchain). An older
 * one, as Debian 12's 1.19, can do neither; but a toolchain is a module, and modules are what it can get.
 */
const FIRST_THAT_SWITCHES = 21;
const TOOLCHAIN = '1.26.0';

const run = promisify(execFile);
const Downloaded = z.object({ Dir: z.string() });

/** What every call of the go command is given: static executables, the release that a go.mod asks for. */
export const goEnvironment = (): NodeJS.ProcessEnv => ({
  ...process.env,
  CGO_ENABLED: '0',
  GOFLAGS: '-buildvcs=false',
  GOWORK: 'off',
  // Debian has set it to "local" in some releases.
  GOTOOLCHAIN: process.env.GOTOOLCHAIN ?? 'auto',
});

/** Path of a go command that understands the go.mod files pinned here; fetched where this machine's does not. */
export async function goCommand(report: Report, signal?: AbortSignal): Promise<string> {
  const options = { env: goEnvironment(), cwd: tmpdir(), ...(signal && { signal }) };
  const { stdout: words } = await run('go', ['version'], options).catch((error: unknown) => {
    throw isAbsent(error)
      ? new Error("the 'go' command is not installed, so nothing can be built", { cause: error })
      : error;
  });
  const [, version = '', minor] = /\bgo(1\.(\d+)\S*)/.exec(words) ?? [];
  if (minor === undefined || Number(minor) >= FIRST_THAT_SWITCHES) return 'go';
  report(`Go ${version} is older than what is to be built: fetching Go ${TOOLCHAIN}`);
  const architecture = process.arch === 'x64' ? 'amd64' : process.arch;
  const name = `golang.org/toolchain@v0.0.1-go${TOOLCHAIN}.linux-${architecture}`;
  const { stdout } = await run('go', ['mod', 'download', '-json', name], options);
  const { Dir: folder } = Downloaded.parse(JSON.parse(stdout));
  // Modules are unpacked without the right to run their files.
  for (const below of ['bin', `pkg/tool/linux_${architecture}`])
    for (const file of await readdir(join(folder, below))) await chmod(join(folder, below, file), 0o755);
  return join(folder, 'bin/go');
}

const isAbsent = (error: unknown): boolean =>
  error instanceof Error && 'code' in error && error.code === 'ENOENT';
