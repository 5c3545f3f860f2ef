/** What is answered at which path. */
import { rm } from 'node:fs/promises';
import type { TranscribeOptions, Whisper } from '../whisper.js';
import type { Admission } from './admission.js';
import { answerOf, deltaEvent, doneEvent, jsonAnswer } from './answers.js';
import { ApiError } from './api-error.js';
import { checkedLength } from './audio-length.js';
import type { Exchange } from './exchange.js';
import { checkFormHeaders, type FormLimits, readForm } from './form.js';
import { type Abilities, checkModel, type Parameters, parametersOf, type Task } from './parameters.js';
import type { PrivateFolder } from './private-folder.js';

/** What the routes work with. */
export interface Service {
  whisper: Whisper;
  abilities: Abilities;
  /** For what a request does not say. */
  defaults: TranscribeOptions;
  admission: Admission;
  folder: PrivateFolder;
  limits: FormLimits & {
    /** Of a recording, s. */
    audioSeconds: number;
  };
  /** When the server began, s since 1970. */
  started: number;
}

interface Route {
  /** As it is logged. */
  name: string;
  method: 'GET' | 'POST';
  handle(exchange: Exchange, service: Service): void | Promise<void>;
}

const MODEL_PREFIX = '/v1/models/';
const ROUTES: Record<string, Route> = Object.fromEntries(
  (
    [
      { name: '/health', method: 'GET', handle: health },
      { name: '/v1/models', method: 'GET', handle: listModels },
      {
        name: '/v1/audio/transcriptions',
        method: 'POST',
        handle: (exchange, service) => transcription('transcribe', exchange, service),
      },
      {
        name: '/v1/audio/translations',
        method: 'POST',
        handle: (exchange, service) => transcription('translate', exchange, service),
      },
    ] satisfies Route[]
  ).map((route) => [route.name, route]),
);
const ONE_MODEL: Route = { name: `${MODEL_PREFIX}{model}`, method: 'GET', handle: describeModel };

/** @throws ApiError 404, 405, and what the route throws */
export async function answerRequest(exchange: Exchange, service: Service): Promise<void> {
  const path = pathOf(exchange);
  const route = path.startsWith(MODEL_PREFIX) ? ONE_MODEL : Object.hasOwn(ROUTES, path) ? ROUTES[path] : undefined;
  if (route === undefined) {
    throw new ApiError(404, `There is nothing at this path. There is: ${Object.keys(ROUTES).join(', ')}.`, {
      code: 'unknown_path',
    });
  }
  exchange.record.route = route.name;
  const { method } = exchange.request;
  if (method !== route.method && !(method === 'HEAD' && route.method === 'GET')) {
    throw new ApiError(405, `${route.name} takes ${route.method}, not ${method}.`, {
      code: 'method_not_allowed',
      headers: { allow: route.method === 'GET' ? 'GET, HEAD' : route.method },
    });
  }
  await route.handle(exchange, service);
}

function pathOf({ request }: Exchange): string {
  return (request.url ?? '').split('?')[0] as string;
}

function health(exchange: Exchange, { abilities, admission }: Service): void {
  exchange.answer(200, jsonAnswer({ status: 'ok', model: abilities.models[0], ...admission.counts }));
}

function listModels(exchange: Exchange, service: Service): void {
  const data = service.abilities.models.map((id) => model(id, service));
  exchange.answer(200, jsonAnswer({ object: 'list', data }));
}

function describeModel(exchange: Exchange, service: Service): void {
  const id = decoded(pathOf(exchange).slice(MODEL_PREFIX.length));
  checkModel(id, service.abilities);
  exchange.answer(200, jsonAnswer(model(id, service)));
}

function model(id: string, { started }: Service): object {
  return { id, object: 'model', created: started, owned_by: 'voicegrpo' };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

async function transcription(task: Task, exchange: Exchange, service: Service): Promise<void> {
  const { admission, folder, limits } = service;
  const { request, record, signal } = exchange;
  checkFormHeaders(request, limits);
  const { fields, file } = await admission.upload(() => {
    exchange.continue();
    return readForm(request, folder, limits, signal);
  });
  record.bytes = file.size;
  let end: () => void;
  try {
    const parameters = parametersOf(task, fields, service.abilities);
    const read = performance.now();
    end = await admission.work(signal, () => {
      record.queued = (performance.now() - read) / 1000;
      return listen(file.path, parameters, exchange, service);
    });
  } finally {
    await rm(file.path, { force: true });
  }
  // Whoever has its answer finds room for the next request.
  end();
}

/** @returns what completes the answer */
async function listen(
  path: string,
  parameters: Parameters,
  exchange: Exchange,
  { whisper, defaults, limits }: Service,
): Promise<() => void> {
  const options = { ...defaults, ...parameters.options, name: 'file' };
  const { signal } = exchange;
  exchange.record.audio = await checkedLength(path, limits.audioSeconds, signal);
  if (!parameters.stream) {
    const heard = await whisper.transcribe(path, options, signal);
    return () => exchange.answer(200, answerOf(heard, parameters));
  }
  const segments = whisper.segments(path, options, signal);
  let next = await segments.next(); // what cannot be read is answered as an error, before events begin
  const send = exchange.beginEvents();
  for (; !next.done; next = await segments.next()) {
    if (next.value.delta !== '') {
      send(deltaEvent(next.value.delta, next.value, parameters));
    }
  }
  const heard = next.value;
  return () => {
    send(doneEvent(heard, parameters));
    exchange.endEvents();
  };
}
