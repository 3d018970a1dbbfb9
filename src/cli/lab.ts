import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { type ConfigFile, defaultConfig, parseConfig } from '../lab/config.ts';
import { down, up } from '../lab/lab.ts';
import { defaultLab } from '../lab/plan.ts';
import { Failure } from './failure.ts';

/** `isthmus lab …`: real Kubernetes clusters on this machine. */
export function register(program: Command): void {
  const lab = program
    .command('lab')
    .description('Real Kubernetes clusters on this machine, to try and to test');

  lab
    .command('up')
    .description('Make clusters us and eu with Isthmus installed, or those of a kind configuration')
    .option('--name <lab>', 'name of the lab', defaultLab)
    .option(
      '-f, --file <[cluster=]file>',
      "kind's configuration (v1alpha4), also several times; - reads standard input",
      (value: string, before: string[]) => [...before, value],
      [],
    )
    .option('--join', 'join the clusters into one network')
    .option('--no-install', 'leave the clusters without a network')
    .option('-v, --verbose', 'show where the time goes')
    .action(async (options: UpFlags, command: Command) => {
      await up({
        name: options.name,
        config: options.file.length === 0 ? defaultConfig() : parseConfig(options.file.map(readConfig)),
        install: options.install,
        join: options.join ?? false,
        kubeconfig: command.optsWithGlobals<{ kubeconfig?: string }>().kubeconfig,
        verbose: options.verbose ?? false,
        report: line => process.stderr.write(`${line}\n`),
      });
    });

  lab
    .command('down')
    .description('Remove a lab and everything it put on this machine')
    .option('--name <lab>', 'name of the lab', defaultLab)
    .action(async (options: { readonly name: string }) => {
      const found = await down({ name: options.name, report: line => process.stderr.write(`${line}\n`) });
      process.stderr.write(found ? `Lab ${options.name} is gone\n` : `There is no lab ${options.name}\n`);
    });
}

interface UpFlags {
  readonly name: string;
  readonly file: readonly string[];
  readonly join?: boolean;
  readonly install: boolean;
  readonly verbose?: boolean;
}

/** `FILE` or `CLUSTER=FILE`; the name is for a document that has none. */
function readConfig(argument: string): ConfigFile {
  const named = /^([a-z0-9-]+)=(.+)$/.exec(argument);
  const path = named?.[2] ?? argument;
  try {
    const text = readFileSync(path === '-' ? 0 : path, 'utf8');
    return { path: path === '-' ? 'standard input' : path, text, clusterName: named?.[1] };
  } catch (error) {
    throw new Failure(`${path}: ${error instanceof Error ? error.message : error}`, { exitCode: 2 });
  }
}
