// Generated from trainable/events.py by jupyter_ext/generate.py: run 'make fix'.

/** A part of the pipeline; each needs the one before it. */
export type Stage = 'eda' | 'prep' | 'train';

/** The fields that every event has. */
export interface BaseEvent {
  /** Position in the session's log, from 1 without gaps; 0 until it is stored. */
  seq: number;
  type: string;
  session_id: string;
  stage: Stage | null;
  time: string;
}

/** A stage was started, by which agent, and why that agent and sandbox. */
export interface RunStarted extends BaseEvent {
  type: 'run_started';
  run_id: string;
  agent: string;
  model: string | null;
  reason: string;
}

/** Something the user should know that is no failure. */
export interface Notice extends BaseEvent {
  type: 'notice';
  code: string;
  text: string;
  remedy: string;
}

/** The session's state changed, e.g. to `eda_running` or `prep_done`. */
export interface StateChange extends BaseEvent {
  type: 'state_change';
  state: string;
}

/** The user said something to the agent. */
export interface UserMessage extends BaseEvent {
  type: 'user_message';
  text: string;
}

/** The box in which the stage's code runs is ready. */
export interface SandboxStarted extends BaseEvent {
  type: 'sandbox_started';
  backend: string;
  isolation: string;
  /** Guarantees that this level of isolation does not give. */
  missing: string[];
  limits: Record<string, number>;
}

/** The agent said something, as markdown. */
export interface AgentMessage extends BaseEvent {
  type: 'agent_message';
  text: string;
}

/** A piece of text or code that the model is still writing; not stored. */
export interface AgentDelta extends BaseEvent {
  type: 'agent_delta';
  text: string;
  code: string;
}

/** The model's service failed and the agent tries again. */
export interface AgentRetry extends BaseEvent {
  type: 'agent_retry';
  attempt: number;
  max_attempts: number;
  reason: string;
  /** Seconds until the next attempt. */
  delay: number;
}

/** What `execute_code` was called with. */
export interface ToolInput {
  code: string;
}

/** The agent's code is about to run. */
export interface ToolStart extends BaseEvent {
  type: 'tool_start';
  tool: string;
  input: ToolInput;
  /** Where the code was saved, relative to the volume. */
  script: string;
  step: number;
}

/** Running code printed something. */
export interface CodeOutput extends BaseEvent {
  type: 'code_output';
  stream: 'stdout' | 'stderr';
  text: string;
}

/** The agent's code ended; `output` is what the agent got to read. */
export interface ToolEnd extends BaseEvent {
  type: 'tool_end';
  tool: string;
  output: string;
  exit_code: number;
  seconds: number;
  timed_out: boolean;
}

/** Code wrote a file; `changed` when the file had been announced before. */
export interface FileCreated extends BaseEvent {
  type: 'file_created';
  path: string;
  name: string;
  /** Bytes. */
  size: number;
  changed: boolean;
}

/** The stage's report is written. */
export interface ReportReady extends BaseEvent {
  type: 'report_ready';
  content: string;
}

/** All files of the stage, once the agent has ended. */
export interface FilesReady extends BaseEvent {
  type: 'files_ready';
  files: string[];
}

/** One logged number; `value` is null where it was not a finite one. */
export interface MetricItem {
  step: number;
  name: string;
  value: number | null;
  stage: Stage | null;
  run_tag: string | null;
}

/** Numbers that code logged, gathered over at most 50 ms. */
export interface MetricsBatch extends BaseEvent {
  type: 'metrics_batch';
  items: MetricItem[];
  /** Names of the metrics whose value is null because it was NaN or infinite. */
  not_finite: string[];
}

/** One live chart. */
export interface Chart {
  title: string;
  metrics: string[];
  type: 'line' | 'bar' | 'scatter';
}

/** The agent chose the live charts. */
export interface ChartConfig extends BaseEvent {
  type: 'chart_config';
  charts: Chart[];
}

/** One check of a validator: a stable code, a plain sentence and its evidence. */
export interface Finding {
  code: string;
  message: string;
  [field: string]: unknown;
}

/** The host checked the stage's outputs; the stage is done only without errors. */
export interface ValidationResult extends BaseEvent {
  type: 'validation_result';
  passed: Finding[];
  warnings: Finding[];
  errors: Finding[];
}

/** The host scored the sealed test set, once. */
export interface TestScored extends BaseEvent {
  type: 'test_scored';
  metrics: Record<string, unknown>;
  rows: number;
  ledger_id: string;
}

/** The stage's files were copied to S3. */
export interface S3SyncComplete extends BaseEvent {
  type: 's3_sync_complete';
  files_synced: number;
  bytes: number;
  s3_prefix: string;
}

/** The stage's files could not all be copied to S3; the stage stays done. */
export interface S3SyncFailed extends BaseEvent {
  type: 's3_sync_failed';
  error: string;
  remedy: string;
}

/** What the run has used so far. */
export interface Usage extends BaseEvent {
  type: 'usage';
  input_tokens: number;
  output_tokens: number;
  cache_read_tokens: number;
  cost_usd: number;
  turns: number;
  seconds: number;
}

/** The run failed: why, and what to do. */
export interface AgentError extends BaseEvent {
  type: 'agent_error';
  error: string;
  code: string;
  remedy: string;
}

/** The run was stopped by the user. */
export interface AgentAborted extends BaseEvent {
  type: 'agent_aborted';
  reason: string;
}

/** An event of a newer version, kept whole. */
export interface UnknownEvent extends BaseEvent {
  [field: string]: unknown;
}

/** Any event that this version knows; `type` tells which. */
export type TrainableEvent =
  | RunStarted
  | Notice
  | StateChange
  | UserMessage
  | SandboxStarted
  | AgentMessage
  | AgentDelta
  | AgentRetry
  | ToolStart
  | CodeOutput
  | ToolEnd
  | FileCreated
  | ReportReady
  | FilesReady
  | MetricsBatch
  | ChartConfig
  | ValidationResult
  | TestScored
  | S3SyncComplete
  | S3SyncFailed
  | Usage
  | AgentError
  | AgentAborted;
