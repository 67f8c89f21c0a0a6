-- Health of Bulkhead's kinds for Argo CD. The same for each of them: docs/gitops.md says where it goes.
local function health(status, message)
  return { status = status, message = message or "" }
end

local status = obj.status
if status == nil or status.observedGeneration ~= obj.metadata.generation then
  return health("Progressing", "Waits to be looked at.")
end

local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end
local function holds(type)
  return conditions[type] ~= nil and conditions[type].status == "True"
end
local ready = conditions.Ready or { status = "Unknown" }

if holds("Stalled") then
  return health("Degraded", conditions.Stalled.message)
end
if holds("Suspended") then
  return health("Suspended", conditions.Suspended.message)
end
if holds("Ready") or status.phase == "Succeeded" then
  return health("Healthy", ready.message)
end
if ready.reason == "NodeLost" then
  return health("Unknown", ready.message)
end
return health("Progressing", ready.message)
