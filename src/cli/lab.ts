import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import Table from 'cli-table3';
import type { Command } from 'commander';
import { Failure } from '../failure.ts';
import { type ConfigFile, defaultConfig, parseConfig } from '../lab/config.ts';
import { down, up } from '../lab/lab.ts';
import { labStatus } from '../lab/lab-status.ts';
import { listImages, loadImage } from '../lab/load-image.ts';
import { commandOnNode, executableFolder, openLab } from '../lab/open-lab.ts';
import { defaultLab } from '../lab/plan.ts';
import { runPortProxy } from '../lab/port-proxy.ts';
import { runRegistry } from '../lab/registry-process.ts';
import { labNames } from '../lab/state.ts';
import { parseNode } from '../lab/target.ts';
import { registerFaults } from './lab-fault.ts';

/** `isthmus lab …`: real Kubernetes clusters on this machine. */
export function register(program: Command): void {
  const lab = program
    .command('lab')
    .description('Real Kubernetes clusters on this machine, to try and to test')
    // What follows the node in `lab shell` is its command's, options included.
    .enablePositionalOptions()
    .hook('preAction', refuseClusterOptions);

  named(lab.command('up'))
    .description('Make clusters us and eu with Isthmus installed, or those of a kind configuration')
    .option(
      '-f, --file <[cluster=]file>',
      "kind's configuration (v1alpha4), also several times; - reads standard input",
      (value: string, before: readonly string[] = []) => [...before, value],
    )
    .option('--join', 'join the clusters into one network')
    .option('--no-install', 'leave the clusters without a network')
    .option('-v, --verbose', 'show where the time goes')
    .action(async (options: UpFlags, command: Command) => {
      const interrupt = new AbortController();
      process.once('SIGINT', () =>
        interrupt.abort(
          new Failure('interrupted', { exitCode: 130, hint: 'isthmus lab down removes what is there' }),
        ),
      );
      await up({
        signal: interrupt.signal,
        name: options.name,
        config: options.file ? parseConfig(options.file.map(readConfig)) : defaultConfig(),
        install: options.install,
        join: options.join ?? false,
        kubeconfig: command.optsWithGlobals<{ kubeconfig?: string }>().kubeconfig,
        verbose: options.verbose ?? false,
        report: say,
      });
      const { plan } = openLab(options.name);
      const [first] = plan.clusters;
      say('');
      say(`  kubectl --context ${first?.context} get nodes`);
      if (!onPath('kubectl')) say(`  (kubectl is in ${dirname(kubectlOf(plan.name))}: add it to your PATH)`);
    });

  named(lab.command('down'))
    .description('Remove a lab and everything it put on this machine')
    .action(async (options: NameFlag) => {
      const found = await down({ name: options.name, report: say });
      say(found ? `Lab ${options.name} is gone` : `There is no lab ${options.name}`);
    });

  lab
    .command('status')
    .alias('list')
    .description('Show labs: their nodes, what runs on them, the faults in force')
    .option('--name <lab>', 'only this lab')
    .option('-o, --output <format>', 'json for programs')
    .action((options: { readonly name?: string; readonly output?: string }) => {
      const names = options.name === undefined ? labNames() : [options.name];
      const labs = names.map(name => labStatus(openLab(name)));
      if (options.output === 'json') print(JSON.stringify(labs, undefined, 2));
      else if (labs.length === 0) print('There is no lab. isthmus lab up makes one.');
      else for (const each of labs) printStatus(each);
    });

  named(lab.command('shell <node> [command...]'))
    .description('Open a shell on a node, or run a command there: shell us/worker -- ip route')
    .action((node: string, command: readonly string[], options: NameFlag) => {
      const opened = openLab(options.name);
      const wanted = command.length === 0 ? ['/bin/bash', '-i'] : command;
      const [file, ...args] = commandOnNode(opened.layout, parseNode(opened.plan, node).node, wanted);
      const { status, signal } = spawnSync(file!, args, { stdio: 'inherit' });
      process.exitCode = status ?? (signal === null ? 1 : 128);
    });

  named(lab.command('load-image <file>'))
    .description('Add the images of an archive (docker save, or an OCI layout) to every node')
    .action(async (file: string, options: NameFlag) => {
      for (const name of await loadImage(openLab(options.name), file)) print(name);
    });

  named(lab.command('images'))
    .description('List the images on the nodes')
    .action(async (options: NameFlag) => printImages(await listImages(openLab(options.name))));

  registerFaults(lab);

  lab.command('port-proxy <forwards>', { hidden: true }).action(runPortProxy);
  lab.command('registry <folder>', { hidden: true }).action(runRegistry);
}

interface NameFlag {
  readonly name: string;
}

interface UpFlags extends NameFlag {
  readonly file?: readonly string[];
  readonly join?: boolean;
  readonly install: boolean;
  readonly verbose?: boolean;
}

/** A lab is no namespace of a cluster: `lab down -n demo` must not take another lab down. */
function refuseClusterOptions(lab: Command, called: Command): void {
  const root = lab.parent;
  for (const option of ['namespace', 'context'])
    if (root?.getOptionValueSource(option) === 'cli')
      throw new Failure(
        `--${option} chooses inside clusters, and isthmus lab ${called.name()} is about labs`,
        {
          hint: 'name the lab with --name',
          exitCode: 2,
        },
      );
}

/** Every command of a lab takes the lab's name. */
export function named(command: Command): Command {
  return command.option('--name <lab>', 'name of the lab', defaultLab);
}

/** `FILE` or `CLUSTER=FILE`; the name is for a document that has none. */
function readConfig(argument: string): ConfigFile {
  const [, clusterName, rest] = /^([a-z0-9-]+)=(.+)$/.exec(argument) ?? [];
  const path = rest ?? argument;
  try {
    const text = readFileSync(path === '-' ? 0 : path, 'utf8');
    return { path: path === '-' ? 'standard input' : path, text, clusterName };
  } catch (error) {
    throw new Failure(`${path}: ${error instanceof Error ? error.message : error}`, { exitCode: 2 });
  }
}

function printStatus(lab: ReturnType<typeof labStatus>): void {
  const note = lab.phase === 'ready' ? '' : ` (${lab.phase}: unfinished)`;
  print(`lab ${lab.name}${note}`);
  const table = new Table({
    head: ['NODE', 'ADDRESS', 'STATE', 'PROCESSES'],
    style: { head: [], border: [], compact: true },
    chars: plain,
  });
  for (const cluster of lab.clusters) {
    print(`cluster ${cluster.name}: context ${cluster.context}, ${cluster.server}`);
    print(`  pods ${apart(cluster.podSubnet)}, services ${apart(cluster.serviceSubnet)}`);
    for (const node of cluster.nodes)
      table.push([node.name, node.address, node.state, node.processes.join(' ')]);
  }
  print('');
  print(table.toString());
  print('');
  print(lab.faults.length === 0 ? 'no faults' : `faults: ${lab.faults.join('; ')}`);
}

/** Of both families, as a sentence lists them. */
const apart = (subnets: string): string => subnets.replaceAll(',', ' and ');

/** One list where all nodes have the same, and what differs. */
function printImages(nodes: ReadonlyMap<string, readonly string[]>): void {
  const all = [...new Set([...nodes.values()].flat())].sort();
  for (const image of all) {
    const without = [...nodes].filter(([, images]) => !images.includes(image)).map(([node]) => node);
    print(without.length === 0 ? image : `${image}  (not on ${without.join(', ')})`);
  }
}

function kubectlOf(lab: string): string {
  return `${executableFolder(lab)}/kubectl`;
}

function onPath(program: string): boolean {
  return spawnSync('/bin/sh', ['-c', `command -v ${program}`]).status === 0;
}

const plain = {
  top: '',
  'top-mid': '',
  'top-left': '',
  'top-right': '',
  bottom: '',
  'bottom-mid': '',
  'bottom-left': '',
  'bottom-right': '',
  left: '',
  'left-mid': '',
  mid: '',
  'mid-mid': '',
  right: '',
  'right-mid': '',
  middle: ' ',
};

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}
