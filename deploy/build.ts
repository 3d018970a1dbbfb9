import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { cacheFolder } from '../src/cache.ts';
import { packageRoot } from '../src/package-root.ts';
import { pruneOldest, touch } from './image/prune.ts';

/**
 * What is compiled from C: the BPF object, the CNI executable, the pause process. Each lies in the cache under a hash
 * of all it was made of (sources, flags, compiler), so the second call only computes the hash.
 */

const run = promisify(execFile);

/** The BPF object with its BTF, without DWARF. Throws with the compiler's words. */
export function buildBpf(): Promise<string> {
  const folder = join(packageRoot, 'bpf');
  return compile({
    name: 'isthmus.bpf.o',
    folder,
    sources: /\.[ch]$/,
    compiler: 'clang-19',
    commands: output => bpfCommands(folder, output),
  });
}

/** What makes the object of the sources in a folder, run there. */
export function bpfCommands(folder: string, output: string): string[][] {
  return [
    // The multiarch folder has asm/types.h, which the BPF target does not look for by itself.
    [
      'clang-19',
      ...bpfFlags,
      `-ffile-prefix-map=${folder}=/isthmus/bpf`,
      '-I',
      '/usr/include/x86_64-linux-gnu',
      '-c',
      'isthmus.bpf.c',
      '-o',
      output,
    ],
    ['llvm-strip-19', '-g', output],
  ];
}

/** `-g` is for BTF; the strip afterwards takes the DWARF and leaves BTF, whose line table has paths. */
const bpfFlags = ['-O2', '-g', '-target', 'bpf', '-mcpu=v3', '-Wall', '-Werror'];

/** The static executable that a container runtime calls as the CNI plugin. */
export function buildCni(): Promise<string> {
  return compile({
    name: 'isthmus-cni',
    folder: join(packageRoot, 'cni'),
    sources: /\.[ch]$|^build\.sh$/,
    compiler: 'gcc',
    commands: output => [['bash', 'build.sh', output]],
  });
}

/** The process that holds a pod's namespaces, for the lab's `pause` image. */
export function buildPause(): Promise<string> {
  return compile({
    name: 'pause',
    folder: join(packageRoot, 'deploy', 'image'),
    sources: /^pause\.c$/,
    compiler: 'gcc',
    commands: output => [
      ['gcc', '-static', '-Os', '-s', '-Wall', '-Wextra', '-Werror', '-o', output, 'pause.c'],
    ],
  });
}

interface Compilation {
  readonly name: string;
  readonly folder: string;
  /** File names below the folder that the result depends on. */
  readonly sources: RegExp;
  readonly compiler: string;
  /** Run in the folder, one after the other. */
  readonly commands: (output: string) => readonly (readonly string[])[];
}

async function compile({ name, folder, sources, compiler, commands }: Compilation): Promise<string> {
  const files = (await readdir(folder, { recursive: true })).filter(file => sources.test(file)).sort();
  if (files.length === 0) throw new Error(`${folder}: nothing to compile ${name} from`);
  const version = await run(compiler, ['--version']).catch((error: unknown) => {
    throw new Error(
      `${name} needs ${compiler}, which does not run: ${error instanceof Error ? error.message : error}`,
    );
  });
  const hash = createHash('sha256')
    .update(version.stdout)
    .update(JSON.stringify(commands('')));
  for (const file of files) hash.update(`${file}\n`).update(await readFile(join(folder, file)));

  const target = cacheFolder('build', `${name}-${hash.digest('hex').slice(0, 16)}`);
  const output = join(target, name);
  if (existsSync(output)) {
    await touch(target);
    return output;
  }

  await mkdir(target, { recursive: true });
  const temporary = join(target, `${process.pid}-${name}`);
  try {
    for (const [command = '', ...parameters] of commands(temporary)) {
      await run(command, parameters, { cwd: folder });
    }
    await rename(temporary, output);
    await pruneOldest(cacheFolder('build'), name, 5);
  } finally {
    await rm(temporary, { force: true });
  }
  return output;
}
