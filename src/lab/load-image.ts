import { spawn } from 'node:child_process';
import { createReadStream, existsSync } from 'node:fs';
import { Failure } from '../failure.ts';
import { nodesOf } from './node.ts';
import { commandOnNode, type Lab } from './open-lab.ts';
import { CommandFailed, run } from './process.ts';
import { addArchive } from './registry-process.ts';

const ctr = ['ctr', '--namespace', 'k8s.io', 'image'] as const;

/** Adds the images of an archive (of `docker save`, or an OCI layout) to every node. Gives their names. */
export async function loadImage(lab: Lab, file: string): Promise<readonly string[]> {
  if (!existsSync(file)) throw new Failure(`${file}: there is no such file, expected an image archive`);
  const outputs = await Promise.all(
    nodesOf(lab.plan).map(async ({ node }) => {
      try {
        return await feed(commandOnNode(lab.layout, node, [...ctr, 'import', '-']), file);
      } catch (error) {
        if (error instanceof CommandFailed)
          throw new Failure(`${file}: node ${node.name} does not take it: ${error.stderr.trim()}`, {
            cause: error,
          });
        throw error;
      }
    }),
  );
  addArchive(lab.plan.name, file);
  return [...(outputs[0] ?? '').matchAll(/^unpacking (\S+)/gm)].map(match => match[1]!);
}

/** Names of the images on each node, without those of an ID alone. */
export async function listImages(lab: Lab): Promise<ReadonlyMap<string, readonly string[]>> {
  const entries = await Promise.all(
    nodesOf(lab.plan).map(async ({ node }): Promise<[string, string[]]> => {
      const [command, ...args] = commandOnNode(lab.layout, node, [...ctr, 'ls', '-q']);
      const names = (await run(command!, args)).split('\n');
      return [node.name, names.filter(name => name !== '' && !name.startsWith('sha256:')).sort()];
    }),
  );
  return new Map(entries);
}

function feed(commandLine: readonly string[], file: string): Promise<string> {
  const [command, ...args] = commandLine;
  return new Promise((resolve, reject) => {
    const child = spawn(command!, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => out.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => err.push(chunk));
    child.once('error', reject);
    child.once('close', code => {
      if (code === 0) resolve(Buffer.concat(out).toString());
      else reject(new CommandFailed('ctr image import', code, Buffer.concat(err).toString()));
    });
    child.stdin.on('error', () => {});
    createReadStream(file).pipe(child.stdin);
  });
}
