-- name: services
select server, not can_route as is_blocked, coalesce(reason, status) as why, protocol_versions from services where host = $1;
